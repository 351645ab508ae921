"""The service explorer-worker."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from autopipe_services.options import service_options
from mlip_autopipec.config import load_frozen
from mlip_autopipec.daemons.explorer_worker import ExplorerWorker
from mlip_autopipec.daemons.launch import launch


@click.command()
@service_options("explorer-worker-0")
def main(folder: Path, name: str) -> None:
    """Explore with a surrogate, and pick what is worth a label."""
    sys.exit(launch(folder, name, lambda run: ExplorerWorker(run, load_frozen(run), name)))


if __name__ == "__main__":
    main()
