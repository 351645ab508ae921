"""The service otf-runner."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from autopipe_services.options import service_options
from mlip_autopipec.config import load_frozen
from mlip_autopipec.daemons.inoffice import InOffice, runners_office
from mlip_autopipec.daemons.launch import launch
from mlip_autopipec.daemons.otf_runner import OtfRunner
from mlip_autopipec.store.rundir import RunDirectory


@click.command()
@service_options("otf-runner")
def main(folder: Path, name: str) -> None:
    """Run the walkers of a run; one per run."""

    def make(run: RunDirectory) -> InOffice:
        office = runners_office(run, load_frozen(run).queue.lease_s)
        # Read again when the office is held: by then the run may have been started anew.
        return InOffice(office, lambda: OtfRunner(run, load_frozen(run), name, in_office=True), wait=True)

    sys.exit(launch(folder, name, make))


if __name__ == "__main__":
    main()
