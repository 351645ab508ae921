"""`autopipe potential`: look at the versions of a run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mlip_autopipec.cli.options import json_option, run_option
from mlip_autopipec.store.rundir import RunDirectory


@click.group()
def potential() -> None:
    """Look at potential versions."""


@potential.command("list")
@run_option
@json_option
def list_versions(run: RunDirectory, as_json: bool) -> None:
    """List versions, their labels and training errors."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.status import collect

    versions = collect(run)["versions"]
    if as_json:
        click.echo(json.dumps(versions))
        return
    columns = ("version", "parent", "labels", "new", "force_rmse", "energy_rmse_mev", "created")
    print_table("versions", columns, ([v[c] for c in columns] for v in versions))


@potential.command("errors")
@click.argument("structures", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--version", "wanted", multiple=True, help="Only this version; may be repeated. Default: first and last.")
@run_option
@json_option
def errors_of_versions(run: RunDirectory, structures: Path, wanted: tuple[str, ...], as_json: bool) -> None:
    """Force and energy errors of versions on the labelled STRUCTURES (extxyz)."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.core.errors import DataError, NotFoundError
    from mlip_autopipec.daemons.evaluators import make_evaluator
    from mlip_autopipec.monitor.accuracy import by_group
    from mlip_autopipec.stages.explore import has_label, read_structures
    from mlip_autopipec.store.references import reference_energies
    from mlip_autopipec.store.registry import Registry

    registry = Registry(run.potentials)
    known = registry.versions()
    if not known:
        raise NotFoundError(f"{run.potentials}: no version yet", "`autopipe status` says what v0001 waits for")
    for version in wanted:
        if version not in known:
            raise NotFoundError(f"{version}: no such version", f"known: {', '.join(known)}")
    frames = read_structures(structures, "STRUCTURES")
    if not all(has_label(atoms) for atoms in frames):
        raise DataError(f"{structures}: has structures without energy and forces", "label them first")
    isolated = reference_energies(registry)
    table = {
        version: by_group(make_evaluator(registry.path(version)), frames, isolated)
        for version in wanted or dict.fromkeys((known[0], known[-1]))
    }
    if as_json:
        click.echo(json.dumps(table))
        return
    print_table(
        str(structures),
        ("version", "group", "structures", "force RMSE (eV/A)", "energy RMSE (meV/atom)"),
        (
            (version, group, numbers["structures"], numbers["force_rmse"], numbers["energy_rmse_mev"])
            for version, groups in table.items()
            for group, numbers in groups.items()
        ),
    )
