"""How a service comes to life: logging, one process per name, signs of life, the loop."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.runtime.child import DEFAULT_ENVIRONMENT
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.runtime.serve import Daemon, serve, show_error
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.guard import tighten_umask
from mlip_autopipec.store.rundir import RunDirectory

logger = logging.getLogger(__name__)

# A successor may be started while its predecessor still drains.
_PREDECESSOR_S = 30.0


def unique_name(kind: str) -> str:
    """Return a name for a process that was started by hand: no other process on any node has it."""
    return f"{kind}-{socket.gethostname().split('.')[0]}-{os.getpid()}"


class _OneLine(logging.Formatter):
    """Shows control characters of messages instead of sending them to somebody's terminal; tracebacks stay."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name is logging's
        text = super().formatMessage(record)
        return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _start_logging() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def launch(
    folder: Path,
    name: str,
    make: Callable[[RunDirectory], Daemon],
    *,
    wait_s: float = _PREDECESSOR_S,
    drain_on: Sequence[signal.Signals] = (),
    forget: bool = False,
) -> int:
    """Run the daemon that `make` returns until it ends; return the exit code.

    Parameters
    ----------
    folder
        The run directory.
    name
        Name of the process: of its heartbeat, its events, its lease. Two processes of one name never run at once.
    wait_s
        How long to wait for a predecessor of the same name to end, s.
    drain_on
        Signals that end the daemon in peace, besides SIGTERM and SIGINT.
    forget
        Remove the heartbeat after a clean end: nobody will ever come again under this name.
    """
    _start_logging()
    tighten_umask()
    for key, value in DEFAULT_ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    try:
        run = RunDirectory(folder).require()
        run.create()
        with only_one(run, name, wait_s):
            heartbeat = Heartbeat(run.heartbeats / f"{name}.json", name)
            control = Control(run.control)
            code = serve(make(run), heartbeat=heartbeat, stop=lambda: control.wants("stop"), drain_on=drain_on)
        if forget and code == 0:
            for suffix in (".json", ".lock"):
                (run.heartbeats / f"{name}{suffix}").unlink(missing_ok=True)
        return code
    except AutopipeError as error:
        logger.error("%s", show_error(error))
        return error.exit_code


class AlreadyRunning(AutopipeError):  # noqa: N818  says what is, as in the field
    """Another process of this name serves the run."""


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
