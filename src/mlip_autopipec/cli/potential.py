"""`autopipe potential`: look at the versions of a run and at potential files."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mlip_autopipec.cli.options import json_option, run_option
from mlip_autopipec.cli.potential_files import compare, convert, evaluate, info
from mlip_autopipec.cli.potential_inputs import bad_input, each_structure
from mlip_autopipec.cli.potential_validate import validate
from mlip_autopipec.cli.potential_versions import diff, promote, rollback, show, why
from mlip_autopipec.core.errors import ConfigError, NotFoundError
from mlip_autopipec.store.rundir import RunDirectory


@click.group()
def potential() -> None:
    """Look at potential versions and files, and choose the version that walkers use."""


for _command in (info, convert, compare, evaluate, validate, show, diff, why, promote, rollback):
    potential.add_command(_command)


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
    columns = ("version", "parent", "labels", "new", "force_rmse", "energy_rmse_mev", "created", "candidate")
    print_table("versions", columns, ([v[c] for c in columns] for v in versions))


@potential.command("errors")
@click.argument("structures", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--version", "wanted", multiple=True, help="Only this version; may be repeated. Default: first and last.")
@run_option
@json_option
def errors_of_versions(run: RunDirectory, structures: Path, wanted: tuple[str, ...], as_json: bool) -> None:
    """Force and energy errors of versions on the labelled STRUCTURES (extxyz)."""
    from mlip_autopipec.ace.formats.yace_reading import read_yace
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.daemons.evaluators import make_evaluator
    from mlip_autopipec.monitor.accuracy import by_group
    from mlip_autopipec.stages.explore import has_label
    from mlip_autopipec.store.registry import Registry

    registry = Registry(run.potentials)
    known = registry.versions()
    if not known:
        raise NotFoundError(f"{run.potentials}: no version yet", "`autopipe status` says what v0001 waits for")
    for version in wanted:
        if version not in known:
            raise NotFoundError(f"{version}: no such version", f"known: {', '.join(known)}")
    frames = list(each_structure(structures))
    for number, atoms in enumerate(frames, start=1):
        if not has_label(atoms):
            raise ConfigError(
                f"{structures}: structure {number} has no energy and forces",
                "give labelled structures, for example those of a reference calculation, as extxyz",
            )
    table = {}
    for version in dict.fromkeys(wanted or (known[0], known[-1])):
        folder = registry.path(version)
        with bad_input():
            products = read_yace(folder / "potential.yace")
            isolated = dict(zip(products.elements, products.isolated_energies, strict=True))
            table[version] = by_group(make_evaluator(folder), frames, isolated)
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
