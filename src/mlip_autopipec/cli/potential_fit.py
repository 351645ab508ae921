"""`autopipe potential fit|metrics|curve`: fit a file without a run; how wrong potentials are, and versions were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from mlip_autopipec.cli.figures import require_matplotlib
from mlip_autopipec.cli.options import json_option, run_option
from mlip_autopipec.cli.potential_files import energies_by_element
from mlip_autopipec.cli.potential_inputs import bad_input, check_target, each_structure
from mlip_autopipec.core.errors import ConfigError, NotFoundError
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlip_autopipec.monitor.metrics import Said
    from mlip_autopipec.store.dataset import DatasetRow

_file = click.Path(path_type=Path, dir_okay=False)
_COLUMNS = ("energy_rmse_mev", "energy_mae_mev", "force_rmse", "force_mae", "force_cosine", "stress_rmse_gpa")


@click.command()
@click.argument("train", type=_file)
@click.option("--test", "test", type=_file, help="Labelled structures that the fit does not see.")
@click.option("--trainer", type=click.Choice(("linear", "pacemaker")), default="linear", show_default=True)
@click.option("--basis", type=click.Choice(("auto", "small", "large")), default="auto", show_default=True)
@click.option(
    "--baseline", type=click.Choice(("none", "zbl", "lj")), default="none", show_default=True,
    help="What pushes atoms apart where nothing was trained.",
)  # fmt: skip
@click.option("--overlay", is_flag=True, help="zbl as a pair style that LAMMPS adds, not in the file; lj always is.")
@click.option("--iterations", type=click.IntRange(1), help="Of pacemaker's optimizer.")
@click.option("--kappa", type=click.FloatRange(0, 1), help="Share of the forces in pacemaker's loss.")
@click.option("--e0", "energies", multiple=True, metavar="EL=EV", help="Energy of an isolated atom, eV.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="New folder.")
@json_option
def fit(
    train: Path, test: Path | None, trainer: Any, basis: str, baseline: Any, overlay: bool, iterations: int | None,
    kappa: float | None, energies: tuple[str, ...], out: Path, as_json: bool,
) -> None:  # fmt: skip
    """Fit a potential to the labelled structures of TRAIN, without a run; OUT gets the files of a version.

    Functions and cutoff follow from the structures. Structures of one atom without neighbours are isolated atoms.
    """
    from mlip_autopipec.daemons.evaluators import load_evaluator
    from mlip_autopipec.daemons.standalone import Wanted, fit_rows
    from mlip_autopipec.engines.pacemaker.settings import PacemakerSettings
    from mlip_autopipec.monitor.metrics import measures, said_by

    given = energies_by_element(energies)
    rows, free = _rows(train)
    tested, _ = _rows(test) if test is not None else ([], {})
    isolated, source = _isolated(rows, free | given)
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"--out {out}: is not empty", "name a new folder")
    out.mkdir(parents=True, exist_ok=True)
    asked = {"iterations": iterations, "kappa": kappa}
    settings = PacemakerSettings.model_validate({key: value for key, value in asked.items() if value is not None})
    with bad_input():
        form: Literal["overlay"] | None = "overlay" if overlay and baseline != "none" else None
        chosen = fit_rows(rows, isolated, Wanted(trainer, basis, settings, baseline, form), out)
        evaluator = load_evaluator(out / "potential.yaml")
        sides = {"train": said_by(evaluator, rows, isolated)}
        if tested:
            sides["test"] = said_by(evaluator, tested, isolated)
    report = {"folder": str(out), "trainer": trainer, "basis": chosen, "isolated_energies_ev": isolated,
              "isolated_energies_from": source, **{name: measures(said) for name, said in sides.items()}}  # fmt: skip
    if as_json:
        click.echo(json.dumps(report))
        return
    click.echo(f"{out}: {chosen['functions']} functions, cutoff {chosen['cutoff']:g} A, by {trainer}")
    _print(report, tuple(sides))


@click.command()
@click.argument("version", required=False)
@click.option("--plot", "figure", type=_file, help="Write a parity plot (png, pdf, svg).")
@run_option
@json_option
def metrics(run: RunDirectory, version: str | None, figure: Path | None, as_json: bool) -> None:
    """Show how wrong VERSION (default: the newest) is on what it was trained on, and on what is held out."""
    from mlip_autopipec.monitor.metrics import draw_parity, measures

    name = version or _versions(run)[-1]
    if figure is not None:
        require_matplotlib(figure)
        check_target(figure, replace=False)
    sides = _sides(run, name)
    if figure is not None:
        draw_parity(sides, figure)
    report: dict[str, Any] = {"version": name, **{side: measures(said) for side, said in sides.items()}}
    if as_json:
        click.echo(json.dumps(report))
        return
    click.echo(name)
    _print(report, tuple(sides))


@click.command()
@click.option("--plot", "figure", type=_file, help="Write the learning curve (png, pdf, svg).")
@run_option
@json_option
def curve(run: RunDirectory, figure: Path | None, as_json: bool) -> None:
    """Show the learning curve: errors of every version on its own labels, and on all that is held out by now."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.metrics import draw_curve, measures
    from mlip_autopipec.store.registry import Registry

    if figure is not None:
        require_matplotlib(figure)
        check_target(figure, replace=False)
    lines: list[dict[str, Any]] = []
    for version in _versions(run):
        found = {side: measures(said) if said else None for side, said in _sides(run, version).items()}
        lines.append({"version": version, "labels": len(Registry(run.potentials).labels(version)), **found})
    if figure is not None:
        draw_curve(lines, figure)
    if as_json:
        click.echo(json.dumps(lines))
        return
    wanted = [(side, key) for side in ("train", "validation") for key in ("energy_rmse_mev", "force_rmse")]
    print_table(
        "RMSE (meV/atom, eV/A)",
        ("version", "labels", "train energy", "train force", "held-out energy", "held-out force"),
        ((line["version"], line["labels"], *((line[side] or {}).get(key) for side, key in wanted)) for line in lines),
    )


def _print(report: Mapping[str, Any], sides: Sequence[str]) -> None:
    from mlip_autopipec.cli.tables import print_table

    lines = []
    for side in sides:
        found = report[side]
        lines.append((side, "all", found["structures"], *(found[c] for c in _COLUMNS)))
        lines += [(side, g, e["structures"], *(e[c] for c in _COLUMNS)) for g, e in found["groups"].items()]
        lines += [(side, e, None, *(v.get(c) for c in _COLUMNS)) for e, v in found["elements"].items()]
    print_table("errors (meV/atom, eV/A, GPa)", ("side", "group or element", "structures", *_COLUMNS), lines)
    phases = [
        (side, *p["groups"], p["label"], p["potential"], p["error"]) for side in sides for p in report[side]["phases"]
    ]
    if phases:
        columns = ("side", "from", "to", "label", "potential", "error")
        print_table("energy between groups (meV/atom)", columns, phases)


def _versions(run: RunDirectory) -> list[str]:
    from mlip_autopipec.store.registry import Registry

    versions = Registry(run.potentials).versions()
    if not versions:
        raise NotFoundError(f"{run.potentials}: no version yet", "`autopipe status` says what v0001 waits for")
    return versions


def _sides(run: RunDirectory, version: str) -> dict[str, Sequence[Said]]:
    """Return what a version says of its own labels, and of those that are held out."""
    from mlip_autopipec.daemons.evaluators import load_evaluator
    from mlip_autopipec.monitor.dataset import read_rows
    from mlip_autopipec.monitor.metrics import said_by
    from mlip_autopipec.store.references import reference_energies
    from mlip_autopipec.store.refusals import read_refusals
    from mlip_autopipec.store.registry import Registry
    from mlip_autopipec.store.sides import side_of

    registry = Registry(run.potentials)
    known = set(registry.manifest(version)["task_ids"])
    isolated = reference_energies(registry)
    evaluator = load_evaluator(registry.path(version) / "potential.yaml")
    rows = [row for row in read_rows(run) if set(row.atoms.get_chemical_symbols()) <= set(evaluator.elements)]
    left_out = known | set(read_refusals(run))
    held = [r for r in rows if side_of(r.config_type, r.origin) == "validation" and r.task_id not in left_out]
    return {
        "train": said_by(evaluator, [row for row in rows if row.task_id in known], isolated),
        "validation": said_by(evaluator, held, isolated),
    }


def _rows(file: Path) -> tuple[list[DatasetRow], dict[str, float]]:
    """Return the labels of a file, and the energies of isolated atoms among them."""
    from dataclasses import replace

    from mlip_autopipec.core.structure import energy_of_forces
    from mlip_autopipec.stages.curate import row_of_frame
    from mlip_autopipec.stages.explore import has_label

    rows: dict[str, DatasetRow] = {}
    free: dict[str, float] = {}
    for number, atoms in enumerate(each_structure(file), start=1):
        if not has_label(atoms):
            raise ConfigError(f"{file}: structure {number} has no energy and forces", "give labelled structures")
        if len(atoms) == 1 and (not atoms.pbc.any() or min(atoms.cell.lengths()) > _ALONE):
            free[atoms.get_chemical_symbols()[0]] = energy_of_forces(atoms)
            continue
        with bad_input():
            row = row_of_frame(atoms, number, {}, force_limit=_FORCE_LIMIT)
        group = atoms.info.get("config_type", atoms.info.get("group"))
        rows[row.task_id] = row if group is None else replace(row, config_type=str(group))
    if not rows:
        raise ConfigError(f"{file}: holds isolated atoms only", "give structures whose atoms have neighbours")
    return list(rows.values()), free


# A; farther than any cutoff.
_ALONE = 15.0
# eV/A; as training.force_limit by default.
_FORCE_LIMIT = 100.0


def _isolated(rows: Sequence[DatasetRow], known: dict[str, float]) -> tuple[dict[str, float], str]:
    """Return isolated-atom energies, and whence: given, or fitted to the labels."""
    from mlip_autopipec.ace.references import fitted_references

    elements = sorted({symbol for row in rows for symbol in row.atoms.get_chemical_symbols()})
    if set(elements) <= set(known):
        return {element: known[element] for element in elements}, "given"
    missing = ", ".join(sorted(set(elements) - set(known)))
    click.echo(
        f"warning: no energy of an isolated {missing} atom: fitted to the labels, which only their differences between "
        "compositions can tell; give --e0, or structures of one atom",
        err=True,
    )
    return dict(fitted_references([row.atoms for row in rows], [row.energy for row in rows]).energies), "fitted"
