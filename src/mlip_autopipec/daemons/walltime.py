"""The end of a batch job as a worker sees it: when to claim nothing more, and when to give its task back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from mlip_autopipec.core.errors import ConfigError

# The next label may take somewhat longer than the longest so far.
_SAFETY: Final = 1.2


def seconds_until(text: str, wall_s: float) -> float:
    """Return how far away a point in time is, s; negative if it is over.

    Parameters
    ----------
    text
        Seconds since the epoch (as Slurm's ``SLURM_JOB_END_TIME``), or ISO 8601; without a zone: UTC.
    wall_s
        The present time, s since the epoch.

    Raises
    ------
    ConfigError
        It is neither.
    """
    try:
        return float(text) - wall_s
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"--deadline {text!r}: not a time", "give $SLURM_JOB_END_TIME, or ISO 8601 as 2026-01-31T18:00:00Z"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - wall_s


class Walltime:
    """Decides by the clock of `Daemon.step`.

    Parameters
    ----------
    max_time_s
        No claims after so long; a label in work is finished. None: no such limit.
    deadline_s
        After so long the machine is taken away: no claims that would not be finished, and a label in work is given up
        `margin_s` before. None: never.
    margin_s
        What giving a task back and ending takes, s.
    """

    def __init__(self, max_time_s: float | None, deadline_s: float | None, margin_s: float) -> None:
        self._max_time_s = float("inf") if max_time_s is None else max_time_s
        self._deadline_s = float("inf") if deadline_s is None else deadline_s - margin_s
        self._began: float | None = None
        self._longest_s = 0.0

    def finished(self, label_s: float) -> None:
        """Take notice of how long a label took, s."""
        self._longest_s = max(self._longest_s, label_s)

    def is_over(self, now: float) -> bool:
        """True if nothing should be claimed any more."""
        passed = self._passed(now)
        return passed >= self._max_time_s or passed + _SAFETY * self._longest_s >= self._deadline_s

    def must_give_back(self, now: float) -> bool:
        """True if a label in work has to be given up now."""
        return self._passed(now) >= self._deadline_s

    def _passed(self, now: float) -> float:
        if self._began is None:
            self._began = now
        return now - self._began
