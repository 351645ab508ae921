"""`autopipe init`: a new run directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlip_autopipec.cli.options import dry_run_option, json_option

if TYPE_CHECKING:
    from mlip_autopipec.store.rundir import RunDirectory

EXAMPLES = ("al", "lj2d", "al-espresso")
LABELLERS = ("espresso", "gpaw", "vasp", "teacher")


@click.command()
@click.argument("what", metavar="COMPOSITION|STRUCTURE|DIR")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False, metavar="[DIR]")
@click.option("--example", type=click.Choice(EXAMPLES), help="Write this example into DIR; no composition then.")
@click.option(
    "--labeller",
    type=click.Choice(LABELLERS),
    help="Who labels. Default: Quantum ESPRESSO, else GPAW. A teacher is an analytic potential, for trials only.",
)
@click.option(
    "--surrogate",
    help="Who explores before the first labels: name of a MACE model, a file (MACE, or .yaml/.yace), emt, lj, none. "
    "Default: a MACE model whose weights are here; never beside a teacher.",
)
@click.option(
    "--evidence",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="An earlier run of this or a like material: kinds of seeds whose labels told it most get more.",
)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the seeds' random numbers.")
@dry_run_option
@json_option
def init(
    what: str,
    folder: Path | None,
    example: str | None,
    labeller: str | None,
    surrogate: str | None,
    evidence: Path | None,
    seed: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make a run directory for COMPOSITION (Al2Cu), or for the crystal in STRUCTURE (any format of ASE).

    DIR is by default named as the composition. It gets seeds to label, a start structure and a short `autopipe.yaml`;
    everything else is inferred. --dry-run says what would be made, how many labels it takes and how many core-hours.
    """
    if example is not None:
        if dry_run or any(given is not None for given in (folder, labeller, surrogate, evidence)):
            raise click.UsageError(
                "--example DIR: takes no composition, --labeller, --surrogate, --evidence or --dry-run"
            )
        _from_example(Path(what), example, as_json)
        return
    from mlip_autopipec.cli.zeroconfig import prepare, tell, write
    from mlip_autopipec.store.rundir import RunDirectory

    prepared = prepare(what, labeller, seed, surrogate, None if evidence is None else RunDirectory(evidence))
    run = RunDirectory(folder or Path(Path(what).stem if Path(what).is_file() else what))
    if not dry_run:
        _require_new(run)
        run.create()
        write(run, prepared, what)
    if as_json:
        click.echo(json.dumps({"run": str(run.root), "made": not dry_run, **prepared.to_dict()}))
        return
    tell(prepared)
    if dry_run:
        click.echo(f"would make {run.root}")
    else:
        _told(run)


def _from_example(folder: Path, example: str, as_json: bool) -> None:
    from mlip_autopipec.cli.examples import write_example
    from mlip_autopipec.store.rundir import RunDirectory

    run = RunDirectory(folder)
    _require_new(run)
    run.create()
    write_example(run, example)
    if as_json:
        click.echo(json.dumps({"run": str(run.root), "made": True, "example": example}))
    else:
        _told(run)


def _require_new(run: RunDirectory) -> None:
    from mlip_autopipec.core.errors import ConfigError

    if run.config_file.exists():
        raise ConfigError(f"{run.config_file}: exists already", "give another folder, or edit that file")
    if run.start.is_dir() and any(run.start.iterdir()):
        raise ConfigError(f"{run.start}: has files already", "give another folder, or move them away")


def _told(run: RunDirectory) -> None:
    click.echo(f"made {run.root}")
    click.echo(f"next: edit {run.config_file.name} if you like, then  autopipe otf start -C {run.root}")
