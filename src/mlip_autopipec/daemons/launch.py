"""How a service comes to life: logging, one process per name, signs of life, the loop."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.runtime.child import DEFAULT_ENVIRONMENT
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.runtime.serve import Daemon, serve, show_error
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.rundir import RunDirectory

logger = logging.getLogger(__name__)

# A successor may be started while its predecessor still drains.
_PREDECESSOR_S = 30.0


def unique_name(kind: str) -> str:
    """Return a name for a process that was started by hand: no other process on any node has it."""
    return f"{kind}-{socket.gethostname().split('.')[0]}-{os.getpid()}"


def launch(folder: Path, name: str, make: Callable[[RunDirectory], Daemon], *, wait_s: float = _PREDECESSOR_S) -> int:
    """Run the daemon that `make` returns until it ends; return the exit code.

    Parameters
    ----------
    folder
        The run directory.
    name
        Name of the process: of its heartbeat, its events, its lease. Two processes of one name never run at once.
    wait_s
        How long to wait for a predecessor of the same name to end, s.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for key, value in DEFAULT_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    try:
        run = RunDirectory(folder).require()
        run.create()
        with only_one(run, name, wait_s):
            heartbeat = Heartbeat(run.heartbeats / f"{name}.json", name)
            control = Control(run.control)
            return serve(make(run), heartbeat=heartbeat, stop=lambda: control.wants("stop"))
    except AutopipeError as error:
        logger.error("%s", show_error(error))
        return error.exit_code


class AlreadyRunning(AutopipeError):  # noqa: N818  says what is, as in the field
    """Another process of this name serves the run."""

    exit_code = 75


@contextmanager
def only_one(run: RunDirectory, name: str, wait_s: float) -> Iterator[None]:
    """Hold the lock of a process name; the kernel releases it when the process dies.

    Raises
    ------
    AlreadyRunning
        Somebody else holds it for longer than `wait_s`.
    """
    lock = FileLock(run.heartbeats / f"{name}.lock")
    try:
        lock.acquire(timeout=wait_s, poll_interval=0.1)
    except Timeout as error:
        raise AlreadyRunning(
            f"{name}: another process of this name serves {run.root}",
            "wait for its end, or give this one another --name",
            transient=True,
        ) from error
    try:
        yield
    finally:
        lock.release()
