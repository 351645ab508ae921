"""The service supervisor: starts the other daemons of this host and looks after them."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from autopipe_services.options import service_options
from mlip_autopipec.config import Config, freeze, load_frozen, load_in_force, load_with_reasons, was_started
from mlip_autopipec.daemons.inoffice import InOffice, supervisors_office
from mlip_autopipec.daemons.launch import launch
from mlip_autopipec.daemons.seeding import publish_seeds
from mlip_autopipec.daemons.stopping import forget_strangers, living
from mlip_autopipec.daemons.supervisor import Supervisor, default_services
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.rundir import RunDirectory


@click.command()
@service_options("supervisor")
@click.option("--foreground", is_flag=True, help="End when the run is done.")
@click.option("--no-daemons", is_flag=True, help="Start no daemons: systemd keeps them alive.")
@click.option("--freeze", "anew", is_flag=True, help="Freeze autopipe.yaml first, as `autopipe otf start` wants it.")
def main(folder: Path, name: str, foreground: bool, no_daemons: bool, anew: bool) -> None:
    """Keep the daemons of a run alive, merge its events; one per run."""

    def make(run: RunDirectory) -> InOffice:
        office = supervisors_office(run, load_in_force(run).queue.lease_s)
        return InOffice(office, lambda: begin(run), wait=False)

    def begin(run: RunDirectory) -> Supervisor:
        if anew:
            freeze(run, *load_with_reasons(run))
        config = _begin_by_systemd(run, name) if no_daemons else load_frozen(run)
        names = {name, *(service for _, service in default_services(config))}
        names |= {plan.name for plan in walker_plans(config.otf)}
        return Supervisor(
            run,
            config,
            name,
            foreground=foreground,
            at_start=[lambda: forget_strangers(run, names), lambda: publish_seeds(run, config, name)],
            services=() if no_daemons else None,
            say=click.echo if foreground else None,
        )

    sys.exit(launch(folder, name, make, wait_s=1.0))


def _begin_by_systemd(run: RunDirectory, name: str) -> Config:
    """Freeze the configuration as `autopipe otf start` does, unless daemons are at work by the earlier one."""
    at_work = any(process.identity.is_local() and process.name != name for process in living(run))
    if not at_work or not was_started(run):
        freeze(run, *load_with_reasons(run))
    return load_frozen(run)


if __name__ == "__main__":
    main()
