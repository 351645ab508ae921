"""`autopipe worker`: more labelling power, from any node that sees the run directory."""

from __future__ import annotations

import click

from mlip_autopipec.cli.options import run_option
from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.rundir import RunDirectory


class NotRunning(AutopipeError):  # noqa: N818  says what is
    """The run takes no workers now."""

    exit_code = 75


@click.group()
def worker() -> None:
    """Add workers to a run."""


@worker.command()
@run_option
@click.option("--name", help="Name of this worker, unique in the run.  [default: from host and process id]")
@click.option("--max-tasks", type=click.IntRange(min=1), help="End after so many tasks.")
@click.option("--idle-timeout", type=click.FloatRange(min=0), help="End after so many seconds without a task.")
def dft(run: RunDirectory, name: str | None, max_tasks: int | None, idle_timeout: float | None) -> None:
    """Label tasks until stopped (Ctrl-C drains): the same process as the daemon, started by hand.

    It never trains. `autopipe otf stop` ends it too.
    """
    from mlip_autopipec.config import load
    from mlip_autopipec.daemons.dft_worker import DftWorker
    from mlip_autopipec.daemons.launch import launch, unique_name

    if Control(run.control).wants("stop"):
        raise NotRunning(f"{run.root}: this run is stopped", "start it with  autopipe otf start", transient=True)
    own_name = name or unique_name("dft")
    config = load(run)
    click.echo(f"{own_name}: labelling for {run.root}", err=True)
    code = launch(
        run.root,
        own_name,
        lambda found: DftWorker(found, config, own_name, max_tasks=max_tasks, idle_timeout_s=idle_timeout),
        wait_s=1.0,
    )
    raise SystemExit(code)
