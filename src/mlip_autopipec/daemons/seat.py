"""A walker's place in the daemon that keeps it alive: its process, or when to start the next one."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mlip_autopipec.runtime.child import Child
from mlip_autopipec.stages.watch import WalkerPlan

if TYPE_CHECKING:
    from mlip_autopipec.engines.lammps.settings import LammpsSettings

_LEAVE_S: Final = 20.0


@dataclass
class Seat:
    """Where one walker sits.

    Attributes
    ----------
    folder : the walker's
    crashes : in a row, without a step beyond `safe_step`
    attempts : to start its process, none of which succeeded
    safe_step : MD step to which the last crash went back; -1: it never crashed
    start_at : s, monotonic; its process starts no earlier
    ended : True if it needs no process any more
    """

    plan: WalkerPlan
    folder: Path
    child: Child | None = None
    crashes: int = 0
    attempts: int = 0
    safe_step: int = -1
    start_at: float = 0.0
    ended: bool = False

    def ask_to_leave(self) -> None:
        """Let the process save its state and end, if there is one."""
        if self.child is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End the process at once (idempotent); the last snapshot is on disk in any case."""
        if self.child is not None:
            self.child.kill()
            self.child = None

    def vacate(self) -> None:
        """Forget the process, which has ended (idempotent)."""
        if self.child is not None:
            self.child.close()
            self.child = None

    def count_crash(self, step: int) -> int:
        """Note a crash that goes back to MD step `step`; return how many there were on the spot.

        A walker that came further since its last crash is alive: only crashes on the spot count.
        """
        self.crashes = 1 if step > self.safe_step else self.crashes + 1
        self.safe_step = step
        return self.crashes


def time_to_leave(lammps: LammpsSettings) -> float:
    """Return how long walkers may take to leave, s: one whose MD is a program of its own does so between two blocks."""
    return _LEAVE_S + (lammps.block_s if lammps.command else 0.0)
