"""`autopipe worker`: more labelling or exploring power, from any node that sees the run directory."""

from __future__ import annotations

from typing import Any

import click

from mlip_autopipec.cli.options import run_option
from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.rundir import RunDirectory

_SIGNALS = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP")


class NotRunning(AutopipeError):  # noqa: N818  says what is
    """The run takes no workers now."""


@click.group()
def worker() -> None:
    """Add workers to a run."""


@worker.command()
@run_option
@click.option("--name", help="Name of this worker, unique in the run.  [default: from host and process id]")
@click.option("--max-tasks", type=click.IntRange(min=1), help="End after so many tasks.")
@click.option("--idle-timeout", type=click.FloatRange(min=0), help="End after so many seconds without a task.")
@click.option("--max-time", type=click.FloatRange(min=0), help="Claim nothing after so many seconds, then end.")
@click.option(
    "--deadline",
    metavar="TIME",
    help="When the batch job ends: $SLURM_JOB_END_TIME or ISO 8601. Nothing is claimed that would not be finished by "
    "then, and a label that is not is given back.",
)
@click.option(
    "--drain-on",
    metavar="SIGNAL",
    multiple=True,
    type=click.Choice(_SIGNALS),
    help="Drain at this signal as well as at SIGTERM and SIGINT (as with sbatch --signal=USR1@300).",
)
def dft(
    run: RunDirectory,
    name: str | None,
    max_tasks: int | None,
    idle_timeout: float | None,
    max_time: float | None,
    deadline: str | None,
    drain_on: tuple[str, ...],
) -> None:
    """Label tasks until stopped (Ctrl-C drains): the same process as the daemon, started by hand.

    It never trains. `autopipe otf stop` ends it too.
    """
    import signal
    import time

    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.daemons.dft_worker import DftWorker
    from mlip_autopipec.daemons.launch import launch, unique_name
    from mlip_autopipec.daemons.walltime import seconds_until

    if Control(run.control).wants("stop"):
        raise NotRunning(f"{run.root}: this run is stopped", "start it with  autopipe otf start", transient=True)
    own_name = name or unique_name("dft")
    config = load_in_force(run)
    limits: dict[str, Any] = {
        "max_tasks": max_tasks,
        "idle_timeout_s": idle_timeout,
        "max_time_s": max_time,
        "deadline_s": None if deadline is None else seconds_until(deadline, time.time()),
    }
    click.echo(f"{own_name}: labelling for {run.root}", err=True)
    code = launch(
        run.root,
        own_name,
        lambda found: DftWorker(found, config, own_name, **limits),
        wait_s=1.0,
        drain_on=[signal.Signals[word] for word in drain_on],
        forget=name is None,
    )
    raise SystemExit(code)


@worker.command()
@run_option
@click.option("--name", help="Name of this worker, unique in the run.  [default: from host and process id]")
def explore(run: RunDirectory, name: str | None) -> None:
    """Make trajectories until the picks have their tasks (Ctrl-C drains), e.g. on a node with a GPU.

    `autopipe otf stop` ends it too.
    """
    raise SystemExit(explore_here(run, name, ends=True))


def explore_here(run: RunDirectory, name: str | None, *, ends: bool) -> int:
    """Be an explorer-worker in this terminal; return the exit code."""
    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.daemons.explorer_worker import ExplorerWorker
    from mlip_autopipec.daemons.exploring import Exploration
    from mlip_autopipec.daemons.launch import launch, unique_name

    if Control(run.control).wants("stop"):
        raise NotRunning(f"{run.root}: this run is stopped", "start it with  autopipe otf start", transient=True)
    own_name, config = name or unique_name("explore"), load_in_force(run)
    exploration = Exploration(run, config, own_name)
    if exploration.is_over():
        click.echo(f"{run.root}: nothing to explore: {exploration.why_over()}", err=True)
        return 0
    click.echo(f"{own_name}: exploring for {run.root}", err=True)
    return launch(
        run.root,
        own_name,
        lambda found: ExplorerWorker(found, config, own_name, ends=ends),
        wait_s=1.0,
        forget=name is None,
    )
