"""A sign of life: one small file per process, replaced about once a second, that status and supervisor read."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.clock import Clock, SystemClock, iso_time
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import read_json, write_json
from mlip_autopipec.core.process import ProcessIdentity

logger = logging.getLogger(__name__)

_KEYS: Final = frozenset({"name", "pid", "host", "process_start", "counter", "state", "detail", "updated"})


class Heartbeat:
    """Writes `heartbeats/<name>.json`: name, pid, host, process_start, counter, state, detail, updated.

    Whoever judges a process on another host watches `counter`: it goes up with every write; clocks are not compared.

    Parameters
    ----------
    path
        The file.
    name
        Name of the process.
    interval_s
        Unless the state changes, at most one write in this time.
    """

    def __init__(self, path: Path, name: str, *, clock: Clock | None = None, interval_s: float = 1.0) -> None:
        self.path = path
        self.name = name
        self._clock = clock or SystemClock()
        self._interval_s = interval_s
        self._identity = ProcessIdentity.of(os.getpid())
        self._counter = 0
        self._state = ""
        self._due = float("-inf")

    def beat(self, state: str, detail: Mapping[str, Any] | None = None) -> bool:
        """Write if the state changed or the interval is over; True if written."""
        now = self._clock.monotonic()
        if state == self._state and now < self._due:
            return False
        self._counter += 1
        record = {
            "name": self.name,
            "pid": os.getpid(),
            "host": self._identity.host if self._identity else "",
            "process_start": self._identity.start if self._identity else "",
            "counter": self._counter,
            "state": state,
            "detail": dict(detail or {}),
            "updated": iso_time(self._clock.wall()),
        }
        try:
            # Not synced: after a power cut a heartbeat means nothing anyway.
            write_json(self.path, record, fsync=False)
        except OSError as error:  # a full disk must not kill a label that has run for hours
            logger.warning("heartbeat %s not written: %s", self.path, error)
        self._state, self._due = state, now + self._interval_s
        return True


def read_heartbeat(path: Path) -> dict[str, Any] | None:
    """Return the last heartbeat with all its keys; None if there is none, or it is unreadable or something else."""
    try:
        record = read_json(path)
    except (OSError, DataError):
        return None
    return record if isinstance(record, dict) and record.keys() >= _KEYS else None


def heartbeat_identity(record: Mapping[str, Any]) -> ProcessIdentity | None:
    """Return which process wrote this heartbeat."""
    return ProcessIdentity.from_dict({**record, "start": record.get("process_start")})
