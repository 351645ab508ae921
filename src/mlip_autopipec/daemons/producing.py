"""How a production comes to life in the process of the command: one at a time, signs of life, the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlip_autopipec.core.clock import SystemClock
from mlip_autopipec.daemons.inoffice import InOffice
from mlip_autopipec.daemons.launch import only_one
from mlip_autopipec.daemons.production import PRODUCER, Order, ProductionRun
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.runtime.serve import serve
from mlip_autopipec.store.guard import tighten_umask
from mlip_autopipec.store.office import Office
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config


class _NewWish:
    """True when `autopipe otf stop` was asked for since: a stopped run may well be produced from."""

    def __init__(self, run: RunDirectory) -> None:
        self._marker = run.control / "stop"
        self._before = self._stamp()

    def __call__(self) -> bool:
        return self._stamp() not in (None, self._before)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            status = self._marker.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns


def produce(run: RunDirectory, config: Config, wanted: Order, say: Callable[[str], None]) -> int:
    """Run a production to its end, a signal or `autopipe otf stop`; return the exit code.

    Raises
    ------
    AlreadyRunning
        Another process makes this production.
    """
    tighten_umask()
    run.create()
    name = f"{PRODUCER}{wanted.folder.name}"
    heartbeat = run.heartbeats / f"{name}.json"
    wanted.folder.mkdir(parents=True, exist_ok=True)
    office = Office(wanted.folder / ".lease", config.queue.lease_s, SystemClock())
    with only_one(run, name, wait_s=0.0):
        # On other hosts the lock says nothing.
        daemon = InOffice(office, lambda: ProductionRun(run, config, wanted, say), wait=False)
        code = serve(daemon, heartbeat=Heartbeat(heartbeat, name), stop=_NewWish(run))
        heartbeat.unlink(missing_ok=True)  # it has said how it ended
    return code
