"""The service trainer-worker."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from autopipe_services.options import service_options
from mlip_autopipec.config import load_frozen
from mlip_autopipec.daemons.launch import launch
from mlip_autopipec.daemons.trainer_worker import TrainerWorker


@click.command()
@service_options("trainer-worker")
def main(folder: Path, name: str) -> None:
    """Take in labels and train potentials of a run; one per run."""
    sys.exit(launch(folder, name, lambda run: TrainerWorker(run, load_frozen(run), name)))


if __name__ == "__main__":
    main()
