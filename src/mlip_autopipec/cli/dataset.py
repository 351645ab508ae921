"""`autopipe dataset`: look at the labels that potentials are made of, take some out, bring others in."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlip_autopipec.cli.options import dry_run_option, json_option, run_option
from mlip_autopipec.core.errors import ConfigError, DataError, NotFoundError
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from ase import Atoms

    from mlip_autopipec.store.dataset import DatasetRow

_SIDES = ("train", "validation", "margin", "refused")


@click.group()
def dataset() -> None:
    """Look at the training set, and change it.

    Its truth are the results of the queue and start.dataset: dataset.db can always be built anew from them.
    """


_kind_option = click.option("--kind", help="Only labels of this kind, e.g. active_learning.")
_side_option = click.option(
    "--side", type=click.Choice(_SIDES), help="Only these: trained on, held out, between the two, or refused."
)


@dataset.command("ls")
@_kind_option
@_side_option
@run_option
@json_option
def list_labels(run: RunDirectory, kind: str | None, side: str | None, as_json: bool) -> None:
    """List labels: where each comes from, on which side it stands, what is odd about it."""
    from mlip_autopipec.cli.tables import print_table

    found = [line for _, line in _chosen(run, kind, side)]
    if as_json:
        click.echo(json.dumps(found))
        return
    columns = (
        "label", "kind", "side", "formula", "learned", "energy_per_atom", "largest_force", "gamma", "walker", "step",
        "version", "remarks",
    )  # fmt: skip
    print_table("labels (eV, eV/A)", columns, ([line[c] for c in columns] for line in found))


@dataset.command()
@run_option
@json_option
def stats(run: RunDirectory, as_json: bool) -> None:
    """Count labels by kind and side, with the ranges of their energies and forces."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.dataset import sums
    from mlip_autopipec.monitor.oddities import duplicates, outliers
    from mlip_autopipec.store.refusals import read_refusals

    pairs = _chosen(run, None, None)
    found = sums([line for _, line in pairs], read_refusals(run))
    rows = [row for row, _ in pairs]
    found |= {"duplicates": duplicates(rows), "outliers": outliers(rows)}
    if as_json:
        click.echo(json.dumps(found))
        return
    columns = (
        "kind", "labels", *_SIDES, "learned_atoms", "lowest_energy", "highest_energy", "largest_force",
    )  # fmt: skip
    print_table("labels (eV/atom, eV/A)", columns, ([line[c] for c in columns] for line in found["kinds"]))
    if found["refused_without_row"]:
        click.echo(f"{found['refused_without_row']} more were refused as they came: see {run.refusals}")
    for group in found["duplicates"]:
        click.echo(f"the same structure: {' '.join(group)}")
    if found["outliers"]:
        told = ("label", "quantity", "value", "median", "deviations")
        print_table("far from all others", told, ([line[c] for c in told] for line in found["outliers"]))


@dataset.command()
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@_kind_option
@_side_option
@click.option("--yes", "replace", is_flag=True, help="Replace the file if it exists.")
@run_option
def export(run: RunDirectory, target: Path, kind: str | None, side: str | None, replace: bool) -> None:
    """Write labels to TARGET as extended XYZ, which start.dataset of another run and `dataset import` read.

    A TARGET that ends in .pckl.gzip becomes the dataframe of pacemaker, with the weights that a fit of this run gives.
    """
    from mlip_autopipec.cli.potential_inputs import check_target

    check_target(target, replace)
    rows = _some(run, kind, side)
    if target.name.endswith(".pckl.gzip"):
        _write_dataframe(run, rows, target)
    else:
        _write_frames(rows, target)
    click.echo(f"{len(rows)} labels written to {target}", err=True)


@dataset.command()
@click.argument("labels", nargs=-1)
@_kind_option
@_side_option
@run_option
def view(run: RunDirectory, labels: tuple[str, ...], kind: str | None, side: str | None) -> None:
    """Look at LABELS (ids, or how they begin; default: all) in ASE's viewer; without a screen, write them to a file."""
    import os
    import subprocess
    import sys
    import tempfile

    rows = _some(run, kind, side)
    if labels:
        wanted = {_resolved({row.task_id for row in rows}, prefix) for prefix in labels}
        rows = [row for row in rows if row.task_id in wanted]
    target = Path(tempfile.mkdtemp(prefix="autopipe-view-")) / "labels.extxyz"
    _write_frames(rows, target)
    if not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        click.echo("no screen here: look at this file elsewhere", err=True)
        click.echo(str(target))
        return
    subprocess.run([sys.executable, "-m", "ase", "gui", str(target)], check=False)


@dataset.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--yes", "same", is_flag=True, help="I know: these labels were made with this run's labeller settings.")
@dry_run_option
@run_option
def import_labels(run: RunDirectory, file: Path, same: bool, dry_run: bool) -> None:
    """Bring labelled structures of FILE (extxyz, OUTCAR, Quantum ESPRESSO output, …) in as results of this run.

    An array force_mask says which atoms are learned (default: all). A running trainer takes them in at once.
    """
    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.store.results import Results

    records = _records(file, load_in_force(run).labeller_settings())
    results = Results(run.results)
    new = {task_id: record for task_id, record in records.items() if not results.exists(task_id)}
    told = f"{len(new)} of {len(records)} labels are new"
    if dry_run:
        click.echo(f"would import: {told}", err=True)
        return
    if not same:
        raise ConfigError(
            f"{file}: were these labels made with the settings of this run's labeller?",
            "a potential never mixes label settings; `autopipe config show` lists them; say --yes if so",
        )
    for task_id, record in new.items():
        results.write_once(task_id, record)
        click.echo(task_id)
    click.echo(told, err=True)


@dataset.command("drop")
@click.argument("labels", nargs=-1, required=True)
@click.option("--reason", default="", help="Kept with the label, for those who wonder.")
@click.option("--undo", is_flag=True, help="Take labels back that were dropped.")
@click.option("--yes", is_flag=True, help="Yes, leave them out of all fits from now on.")
@dry_run_option
@run_option
def drop_labels(run: RunDirectory, labels: tuple[str, ...], reason: str, undo: bool, yes: bool, dry_run: bool) -> None:
    """Leave LABELS (ids, or how they begin) out of all fits. Stop the run before: `autopipe otf stop`."""
    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.daemons.datasetwork import drop, instead_of_the_trainer, undrop
    from mlip_autopipec.monitor.dataset import read_rows

    known = {row.task_id for row in read_rows(run)}
    ids = [_resolved(known, prefix) for prefix in labels]
    what = f"{'take back' if undo else 'drop'} {', '.join(ids)}"
    if dry_run:
        click.echo(f"would {what}", err=True)
        return
    if not yes and not undo:
        raise ConfigError(f"{what}?", "say --yes; --undo takes labels back")
    with instead_of_the_trainer(run, load_in_force(run).queue.lease_s):
        if undo:
            undrop(run, ids)
        else:
            drop(run, known, ids, reason)
    click.echo(f"done: {what}; the next fit follows it", err=True)


@dataset.command("rebuild")
@click.option("--yes", is_flag=True, help="Yes, put the old database aside.")
@dry_run_option
@run_option
def rebuild_dataset(run: RunDirectory, yes: bool, dry_run: bool) -> None:
    """Build dataset.db anew from start.dataset and results/. Stop the run before: `autopipe otf stop`.

    Needed only if the database was changed by hand: a damaged or lost one the trainer builds anew by itself.
    """
    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.daemons.datasetwork import instead_of_the_trainer, rebuild

    if dry_run:
        click.echo(f"would build {run.dataset} anew, and keep the old one beside it", err=True)
        return
    if not yes:
        raise ConfigError(f"build {run.dataset} anew?", "say --yes; the old one is kept beside it")
    config = load_in_force(run)
    with instead_of_the_trainer(run, config.queue.lease_s):
        labels, kept = rebuild(run, config)
    click.echo(f"{labels} labels{f'; the old database is {kept}' if kept else ''}", err=True)


def _some(run: RunDirectory, kind: str | None, side: str | None) -> list[DatasetRow]:
    rows = [row for row, _ in _chosen(run, kind, side)]
    if not rows:
        raise NotFoundError("no such label", "`autopipe dataset stats` counts them")
    return rows


def _write_frames(rows: list[DatasetRow], target: Path) -> None:
    import ase.io

    from mlip_autopipec.monitor.dataset import as_frame

    temporary = target.with_name(f".{target.name}.tmp")
    try:
        ase.io.write(temporary, [as_frame(row) for row in rows], format="extxyz")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _write_dataframe(run: RunDirectory, rows: list[DatasetRow], target: Path) -> None:
    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.daemons.refining import labelled
    from mlip_autopipec.engines.pacemaker.dataframe import write_dataframe
    from mlip_autopipec.store.references import reference_energies
    from mlip_autopipec.store.registry import Registry

    isolated = reference_energies(Registry(run.potentials))
    found = {symbol for row in rows for symbol in row.atoms.get_chemical_symbols()}
    if missing := sorted(found - set(isolated)):
        raise ConfigError(
            f"no energy of an isolated {missing[0]} atom is known yet",
            "it comes with the first version; or give training.reference_energies and wait for that",
        )
    write_dataframe(labelled(rows, load_in_force(run).training, isolated), target)


def _chosen(run: RunDirectory, kind: str | None, side: str | None) -> list[tuple[DatasetRow, dict[str, Any]]]:
    from mlip_autopipec.monitor.dataset import lines, read_rows

    rows = read_rows(run)
    pairs = zip(rows, lines(run, rows), strict=True)
    return [(r, told) for r, told in pairs if kind in (None, told["kind"]) and side in (None, told["side"])]


def _resolved(known: set[str], prefix: str) -> str:
    found = sorted(task_id for task_id in known if task_id.startswith(prefix))
    if not found:
        raise NotFoundError(f"{prefix}: no such label", "`autopipe dataset ls` shows all")
    if len(found) > 1:
        raise click.UsageError(f"{prefix} could be {', '.join(found[:4])}{' ...' if len(found) > 4 else ''}")
    return found[0]


def _text(file: Path) -> str:
    from ase.io.formats import open_with_compression

    with open_with_compression(str(file), "rb") as handle:
        return str(handle.read().decode(errors="replace"))


def _records(file: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return task id -> result record of the labels in a file; a bad frame leaves all of them out."""
    from ase.io.formats import filetype

    from mlip_autopipec.cli.potential_inputs import each_structure
    from mlip_autopipec.core.clock import iso_time
    from mlip_autopipec.engines.vasp.failures import converged_steps

    now = iso_time(time.time())
    found, number = {}, 0
    for number, frame in enumerate(each_structure(file), start=1):
        task_id, record = _record(frame, settings, f"{file.name}:{number}", now)
        found[task_id] = record
    # ASE reads the numbers of an SCF that was given up, too.
    if filetype(str(file)) == "vasp-out" and converged_steps(_text(file)) < number:
        raise DataError(f"{file}: not every SCF of it converged", "compute it again; nothing was imported")
    return found


def _record(frame: Atoms, settings: dict[str, Any], where: str, now: str) -> tuple[str, dict[str, Any]]:
    from mlip_autopipec.core.interfaces import Label
    from mlip_autopipec.core.structure import energy_of_forces
    from mlip_autopipec.stages.explore import has_label
    from mlip_autopipec.store.results import make_result
    from mlip_autopipec.store.sides import brought
    from mlip_autopipec.store.task import Task

    if not has_label(frame):
        raise DataError(f"{where}: has no energy and forces", "`autopipe queue import` has structures labelled")
    mask = frame.arrays.get("force_mask")
    stress = frame.calc.results.get("stress") if frame.pbc.all() else None
    try:
        task = Task.new(
            frame, [1] * len(frame) if mask is None else mask.tolist(), settings,
            priority=float(frame.info.get("gamma", 0.0)), origin={"source": "import", "file": where},
            config_type=brought(str(frame.info.get("config_type", "imported"))), created=now,
        )  # fmt: skip
        label = Label(energy_of_forces(frame), frame.get_forces(apply_constraint=False), stress, {"imported": where})
        return task.id, make_result(task, label, "import", now)
    except (DataError, TypeError, ValueError) as error:
        raise DataError(f"{where}: {error}", "nothing was imported") from error
