"""`autopipe dft`: what DFT is asked to do."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlip_autopipec.cli.dft_labels import costs, flagged, why
from mlip_autopipec.cli.dft_runs import convergence, trial
from mlip_autopipec.cli.options import json_option

if TYPE_CHECKING:
    from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings


@click.group()
def dft() -> None:
    """Look at DFT: its inputs, and what became of them."""


@dft.command("input")
@click.argument("structure", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "-C",
    "--run",
    "run_folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Run directory whose settings are used; without it: what the program chooses by itself.",
)
@click.option(
    "--pseudo-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Folder of pseudopotentials, if not the node's.",
)
@click.option(
    "--settings", "as_settings", is_flag=True, help="Print the labeller section with every choice written out."
)
@json_option
def show_input(
    structure: Path, run_folder: Path | None, pseudo_dir: Path | None, as_settings: bool, as_json: bool
) -> None:
    """Print pw.x's input for STRUCTURE (any format of ASE; its last frame), with the reason for every value."""
    from mlip_autopipec.core.yamlfile import dump_mapping
    from mlip_autopipec.engines.espresso.choices import choose
    from mlip_autopipec.engines.espresso.commented import commented_input, completed
    from mlip_autopipec.stages.explore import read_structures

    atoms = read_structures(structure, "STRUCTURE")[-1]
    settings, node = settings_for(atoms.get_chemical_symbols(), run_folder)
    if pseudo_dir is not None:
        node = node.model_copy(update={"pseudo_dir": pseudo_dir})
    text, reasons = commented_input(atoms, settings, node)
    if as_settings:
        section = completed(settings, choose(settings, node.pseudo_dir)).model_dump(mode="json", exclude_defaults=True)
        section = {"engine": settings.engine, **section}
        click.echo(json.dumps(section) if as_json else dump_mapping({"labeller": section}), nl=as_json)
        return
    click.echo(json.dumps({"input": text, "reasons": reasons}) if as_json else text, nl=as_json)


def settings_for(symbols: Collection[str], run_folder: Path | None) -> tuple[EspressoSettings, EspressoNode]:
    """Return the run's settings, or those that follow from the elements alone."""
    from mlip_autopipec.core.errors import ConfigError
    from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

    if run_folder is None:
        return EspressoSettings(elements=sorted(set(symbols))), EspressoNode()
    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.store.rundir import RunDirectory

    config = load_in_force(RunDirectory(run_folder).require())
    if not isinstance(config.labeller, EspressoSettings):
        raise ConfigError(
            f"labeller.engine: this run's labels come from {config.labeller.engine}, not from pw.x",
            "leave -C out to see what the program would choose",
        )
    return config.labeller, config.node.espresso


for command in (trial, convergence, why, costs, flagged):
    dft.add_command(command)
