"""The service trainer-worker."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from autopipe_services.options import service_options
from mlip_autopipec.config import load_frozen
from mlip_autopipec.daemons.inoffice import InOffice, trainers_office
from mlip_autopipec.daemons.launch import launch
from mlip_autopipec.daemons.trainer_worker import TrainerWorker
from mlip_autopipec.store.rundir import RunDirectory


@click.command()
@service_options("trainer-worker")
def main(folder: Path, name: str) -> None:
    """Take in labels and train potentials of a run; one per run."""

    def make(run: RunDirectory) -> InOffice:
        office = trainers_office(run, load_frozen(run).queue.lease_s)
        # Read again when the office is held: by then the run may have been started anew.
        return InOffice(office, lambda: TrainerWorker(run, load_frozen(run), name), wait=True)

    sys.exit(launch(folder, name, make))


if __name__ == "__main__":
    main()
