"""Ending a run: everybody sees the wish and drains; what does not, and is of this host, is killed."""

from __future__ import annotations

import signal
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.runtime.heartbeat import heartbeat_identity, read_heartbeat
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.rundir import RunDirectory

_OVER = ("stopped", "failed")
_LOOK_S = 0.1
# SIGKILL ends a process that waits for a disk (state D) only when the disk answers, which may be never.
_DYING_S = 10.0
# A process of another host is judged by its heartbeat's counter; one that has not moved for so long is not waited for.
_SILENT_S = 10.0


@dataclass(frozen=True)
class Living:
    """A process that works for the run."""

    name: str
    identity: ProcessIdentity
    counter: int


@dataclass
class Report:
    """Names of the processes that ended by themselves, were killed, or did neither as far as can be seen from here."""

    stopped: list[str] = field(default_factory=list)
    killed: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def living(run: RunDirectory) -> list[Living]:
    """Return the processes that live, as far as their heartbeats tell; those of this host are looked at."""
    found = []
    for path in sorted(run.heartbeats.glob("*.json")):
        record = read_heartbeat(path)
        identity = heartbeat_identity(record) if record else None
        if record is None or identity is None:
            continue
        if identity.alive() if identity.is_local() else record.get("state") not in _OVER:
            found.append(Living(path.stem, identity, int(record.get("counter", 0))))
    return found


def forget_strangers(run: RunDirectory, expected: Collection[str]) -> list[str]:
    """Remove the heartbeats that nobody seems to write any more, except those of `expected` names; return whose.

    A process of another host that does live writes its heartbeat again within a second.
    """
    forgotten = []
    for path in sorted(run.heartbeats.glob("*.json")):
        record = read_heartbeat(path)
        identity = heartbeat_identity(record) if record else None
        if path.stem not in expected and not (identity is not None and identity.is_local() and identity.alive()):
            path.unlink(missing_ok=True)
            forgotten.append(path.stem)
    return forgotten


def end(run: RunDirectory, *, timeout_s: float) -> Report:
    """Ask everybody to drain, wait, and kill what is left on this host.

    Parameters
    ----------
    timeout_s
        How long to wait for processes of this host, s.
    """
    Control(run.control).ask("stop", "autopipe otf stop")
    at_first = {process.name for process in living(run)}
    left = _wait(run, timeout_s)
    report = Report()
    here = [process for process in left if process.identity.is_local()]
    # The supervisor first, or it would start the others again.
    for process in sorted(here, key=lambda p: p.name != "supervisor"):
        process.identity.send(signal.SIGKILL, group=True)
    deadline = time.monotonic() + _DYING_S
    while any(process.identity.alive() for process in here) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    for process in left:
        if process not in here:
            report.unknown.append(process.name)
            # Told once. If it lives after all, it writes its heartbeat again.
            (run.heartbeats / f"{process.name}.json").unlink(missing_ok=True)
        elif process.identity.alive():
            report.unknown.append(process.name)
        else:
            report.killed.append(process.name)
    report.stopped = sorted(at_first - set(report.killed) - set(report.unknown))
    return report


def _wait(run: RunDirectory, timeout_s: float) -> list[Living]:
    """Wait until nobody lives, the time is over, or only silent processes of other hosts are left."""
    deadline = time.monotonic() + timeout_s
    moved: dict[str, tuple[int, float]] = {}
    while True:
        left, now = living(run), time.monotonic()
        for process in left:
            if moved.get(process.name, (None,))[0] != process.counter:
                moved[process.name] = (process.counter, now)
        answering = [p for p in left if p.identity.is_local() or now - moved[p.name][1] < _SILENT_S]
        if not answering or now >= deadline:
            return left
        time.sleep(_LOOK_S)
