"""How many MD steps a walker makes at once, how long they are, and how often gamma is looked at."""

from __future__ import annotations

import math
from typing import Final

from mlip_autopipec.stages.watch import OtfSettings

# A step of the daemon returns within about a second, whatever the size of the system, and a new version waits for it.
_CHUNK_S: Final = 0.25
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
        self._short_until = 0  # the time step is shorter before this step
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

    def timestep(self, step: int) -> float:
        """Return the time step of MD from `step` on, as a fraction of the walker's own."""
        return self._otf.rewind_timestep if step < self._short_until else 1.0

    def rewind(self, back_to: int, past: int) -> None:
        """Look at every step, and make them shorter, from `back_to` until the time that was reached at `past`."""
        shorter = self._otf.rewind_timestep
        steps = math.ceil((past - back_to) / shorter - 1e-9)
        self.careful_until = back_to + steps + self._otf.check_frequency
        if shorter < 1.0:
            self._short_until = back_to + steps

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
