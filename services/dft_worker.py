"""The service dft-worker."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from autopipe_services.options import service_options
from mlip_autopipec.config import load_frozen
from mlip_autopipec.daemons.dft_worker import DftWorker
from mlip_autopipec.daemons.launch import launch


@click.command()
@service_options("dft-worker-0")
def main(folder: Path, name: str) -> None:
    """Label tasks of a run."""
    sys.exit(launch(folder, name, lambda run: DftWorker(run, load_frozen(run), name)))


if __name__ == "__main__":
    main()
