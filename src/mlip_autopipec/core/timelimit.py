"""How long an engine may run on this node: a limit of its own, and the end of its batch job."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr


class TimeLimit(BaseModel):
    """Base of an engine's node settings: what changes no number of a label, so it is never part of a task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # An hour less than supervisor.label_timeout_s, so that the engine itself says why it ended.
    max_seconds: float = Field(82_800.0, gt=0, description="s of wall time after which a label is given up")
    kill_grace_s: float = Field(
        60.0, gt=0, description="s beyond max_seconds after which it is killed; kept free before a batch job ends"
    )
    _deadline: float | None = PrivateAttr(None)

    def before(self, deadline: float) -> Self:
        """Return these settings for a machine that is taken away at `deadline`, s of `time.monotonic` on it."""
        copy = self.model_copy()
        copy._deadline = deadline
        return copy

    def seconds_left(self, now: float) -> float:
        """Return how long a label may take if it begins `now`: to the machine's end, less `kill_grace_s`."""
        if self._deadline is None:
            return self.max_seconds
        return min(self.max_seconds, self._deadline - now - self.kill_grace_s)
