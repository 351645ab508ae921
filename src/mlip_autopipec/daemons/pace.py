"""How many MD steps a walker makes at once, and how often gamma is looked at."""

from __future__ import annotations

from typing import Final

from mlip_autopipec.stages.watch import OtfSettings

# A step of the daemon returns within about a second, whatever the size of the system.
_CHUNK_S: Final = 0.5
_MOST_LOOKS: Final = 10_000


class Pace:
    """Adapts the length of chunks to the speed of MD.

    Parameters
    ----------
    chunk_s
        s that a chunk should take; None: what a daemon's step may take.

    Attributes
    ----------
    careful_until : gamma is looked at every step before this one
    """

    def __init__(self, otf: OtfSettings, chunk_s: float | None = None) -> None:
        self.careful_until = 0
        self._otf = otf
        self._chunk_s = chunk_s or _CHUNK_S
        # A program of its own costs its start: its first block is a whole one.
        self._chunk = otf.check_frequency if chunk_s is None else otf.snapshot_interval

    def gamma_every(self, step: int) -> int:
        """Return how many steps lie between two looks at gamma."""
        return 1 if step < self.careful_until else self._otf.check_frequency

    def next_snapshot(self, last: int) -> int:
        """Return at which step to save the state again: one at which gamma is looked at, for only that is safe."""
        wanted, every = last + self._otf.snapshot_interval, self._otf.check_frequency
        before = wanted - wanted % every
        return before if before > last else before + every

    def steps(self, step: int, *, last: int, next_snapshot: int) -> int:
        """Return how many steps to make from `step` on: not beyond `last`, nor past the next snapshot."""
        target = min(step + self._chunk, last, next_snapshot if step < next_snapshot else last)
        looked_at = target - target % self.gamma_every(step)
        return (looked_at if looked_at > step else target) - step

    def took(self, steps: int, seconds: float) -> None:
        """Make chunks of about the wanted seconds: a whole number of looks at gamma, unless steps are slow."""
        wanted = max(1, round(max(steps, 1) * self._chunk_s / max(seconds, 1e-6)))
        looks = min(wanted // self._otf.check_frequency, _MOST_LOOKS)
        self._chunk = looks * self._otf.check_frequency or wanted
