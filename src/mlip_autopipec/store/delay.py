"""Not-before times of tasks that are tried again later, by the clock of the file server."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Final

from mlip_autopipec.core.clock import Clock, SystemClock

_STAMP: Final = "%Y%m%dT%H%M%SZ"
_REMEASURE_S: Final = 60.0


class ServerTime:
    """The time of the machine that keeps the files: the one clock that all hosts of a run share.

    Parameters
    ----------
    folder
        Where a file may be touched.
    clock
        A clock other than the machine's own (tests) is taken as the server's.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._touched = folder / ".clock"
        self._clock = clock
        self._offset = 0.0
        self._measured: float | None = None if isinstance(clock, SystemClock) else float("inf")

    def now(self) -> float:
        """Return seconds since the epoch on the server; touches a file at most once a minute."""
        monotonic = self._clock.monotonic()
        if self._measured is None or monotonic - self._measured > _REMEASURE_S:
            self._offset = self._measure()
            self._measured = monotonic
        return self._clock.wall() + self._offset

    def _measure(self) -> float:
        try:
            self._touched.parent.mkdir(parents=True, exist_ok=True)
            # times=None asks the server to set its own time; a write might be stamped by the client.
            self._touched.touch()
            os.utime(self._touched)
            return self._touched.stat().st_mtime - self._clock.wall()
        except OSError:
            return 0.0


def stamp(seconds: float) -> str:
    """Return a not-before stamp, `20250131T235959Z`; its lexical order is the order in time."""
    return datetime.fromtimestamp(ceil(seconds), UTC).strftime(_STAMP)


def retry_delay(first_s: float, retries_before: int, rng: random.Random) -> float:
    """Return how long to wait, s: doubling with each retry, with jitter so that tasks do not come back in a flock."""
    return float(first_s * 2**retries_before * rng.uniform(0.75, 1.25))
