"""The service otf-runner."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from autopipe_services.options import service_options
from mlip_autopipec.config import load_frozen
from mlip_autopipec.daemons.launch import launch
from mlip_autopipec.daemons.otf_runner import OtfRunner


@click.command()
@service_options("otf-runner")
def main(folder: Path, name: str) -> None:
    """Run the walkers of a run; one per run."""
    sys.exit(launch(folder, name, lambda run: OtfRunner(run, load_frozen(run), name)))


if __name__ == "__main__":
    main()
