"""`autopipe init`: a new run directory."""

from __future__ import annotations

from pathlib import Path

import click

EXAMPLES = ("al", "lj2d", "al-espresso")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--example", type=click.Choice(EXAMPLES), default="al", show_default=True, help="What to begin with.")
def init(folder: Path, example: str) -> None:
    """Make the run directory FOLDER with a commented `autopipe.yaml` and start structures."""
    from mlip_autopipec.cli.examples import write_example
    from mlip_autopipec.core.errors import ConfigError
    from mlip_autopipec.store.rundir import RunDirectory

    run = RunDirectory(folder)
    if run.config_file.exists():
        raise ConfigError(f"{run.config_file}: exists already", "give another folder, or edit that file")
    run.create()
    write_example(run, example)
    click.echo(f"made {run.root}")
    click.echo(f"next: edit {run.config_file.name} if you like, then  autopipe otf start -C {folder}")
