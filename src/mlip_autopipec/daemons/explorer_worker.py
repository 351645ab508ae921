"""explorer-worker: claims trajectories, has them made in a child process, then picks what is worth a label.

It writes results and tasks only. A kill costs the seconds since the last checkpoint: whoever takes the task up goes on
from there, on whatever host.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.exploring import Exploration
from mlip_autopipec.daemons.picking import pick
from mlip_autopipec.daemons.queues import explore_queue
from mlip_autopipec.daemons.seeding import picking_settings
from mlip_autopipec.daemons.trajectories import Trajectories
from mlip_autopipec.daemons.trajectorychild import TrajectorySettings
from mlip_autopipec.runtime.child import Child
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config

logger = logging.getLogger(__name__)

_LONGEST_BEAT_S: Final = 10.0
_BEATS_PER_LEASE: Final = 12
_SWEEPS_PER_LEASE: Final = 4
_LOOK_S: Final = 0.5
_RETRY_S: Final = 30.0


class ExplorerWorker:
    """A `runtime.serve.Daemon` that explores.

    Parameters
    ----------
    run, config
        Run directory and its configuration.
    name
        Name of this process, unique in the run on all nodes.
    ends
        End once the selection is published (a worker by hand); the service stays at hand.
    checkpoint_s
        At most so much work is lost by a kill, s.
    """

    def __init__(
        self, run: RunDirectory, config: Config, name: str, *, ends: bool = False, checkpoint_s: float = 10.0
    ) -> None:
        self.run = run
        self.name = name
        self.settings = config.explore
        self.queue = explore_queue(run, config.queue, worker=name)
        self.events = EventLog(run.events, name)
        self.control = Control(run.control)
        self._exploration = Exploration(run, config, name)
        surrogate = config.explore.surrogate
        child = TrajectorySettings(run.root, name, surrogate.device, checkpoint_s, surrogate.batch)
        self.trajectories = Trajectories(run, self.queue, self.events, child)
        self._picking = picking_settings(run, config, name)
        self._ends = ends
        self._beat_s = min(_LONGEST_BEAT_S, config.queue.lease_s / _BEATS_PER_LEASE)
        self._sweep_s = config.queue.lease_s / _SWEEPS_PER_LEASE
        self._grace_s = config.supervisor.label_grace_s
        self._next_beat = self._next_look = self._pick_at = float("-inf")
        self._picker: Child | None = None
        self._draining = False
        self._give_back_at = float("inf")
        self._error = ""

    # --- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Nothing to prepare: a run that is beyond its exploration needs no child."""

    def step(self, now: float) -> Outcome:
        """Beat; look after the trajectories or the picking, or begin the next."""
        if now >= self._next_beat:
            self._next_beat = now + self._beat_s
            self._beat()
        if self._draining:
            self._give_back_at = min(self._give_back_at, now + self._grace_s)
        if self._picker is not None:
            return self._look_after_picking(self._picker, now)
        if self.trajectories.jobs:
            return self._look(now)
        if self._draining or (self._ends and self._exploration.is_over()):
            return Outcome.DONE
        if now < self._next_look or self.control.wants("pause"):
            return Outcome.IDLE
        if self._exploration.is_over():
            self.trajectories.rest()
            self._error = ""  # another worker may have picked
            self._next_look = now + _LOOK_S
            return Outcome.IDLE
        return self._begin(now)

    def drain(self) -> None:
        """Begin nothing any more; what is in work gets the grace time, then its tasks go back."""
        self._draining = True

    def close(self) -> None:
        """Give back what is held and leave no process (idempotent)."""
        self.trajectories.give_back("worker ended")
        if self._picker is not None:
            self._picker.close()
        self._picker = None
        self.queue.release()

    def status(self) -> tuple[str, dict[str, Any]]:
        found = self.trajectories
        detail: dict[str, Any] = {"explored": found.explored, "failed": found.failed, **found.status()}
        if self._error:
            return "failing", {**detail, "error": self._error}
        if self._picker is not None:
            return "picking", detail
        if found.jobs:
            return "exploring", detail
        return "paused" if self.control.wants("pause") else "idle", detail

    def wake_folder(self) -> Path:
        """Where published tasks appear."""
        return self.queue.layout.pending

    def waits_for(self) -> Sequence[Connection]:
        """What becomes readable when the child has news."""
        return self._picker.sources() if self._picker is not None else self.trajectories.sources()

    # --- trajectories -----------------------------------------------------------------------------------------

    def _begin(self, now: float) -> Outcome:
        if self.trajectories.begin(now):
            return Outcome.WORKED
        for action in self.queue.sweep(every_s=self._sweep_s):
            logger.info("sweep: %s", action)
        return Outcome.WORKED if self.trajectories.begin(now) else self._begin_picking(now)

    def _look(self, now: float) -> Outcome:
        try:
            if self.trajectories.look(now):
                return Outcome.WORKED
        except QueueError as error:
            logger.warning("%s", error)
            self._next_look = now + _RETRY_S
            return Outcome.IDLE
        if now >= self._give_back_at:
            self.trajectories.give_back("worker drained before the trajectory was done")
            return Outcome.WORKED
        return Outcome.IDLE

    def _beat(self) -> None:
        self.trajectories.cancelled(self.queue.beat())

    # --- picking ----------------------------------------------------------------------------------------------

    def _begin_picking(self, now: float) -> Outcome:
        """Pick once every trajectory has ended, whoever made it."""
        self._next_look = now + _LOOK_S
        if now < self._pick_at or not self._published() or self._exploration.trajectories():
            return Outcome.IDLE
        self.trajectories.rest()
        self._picker = Child(pick, (self._picking,), f"{self.name} picking")
        return Outcome.WORKED

    def _published(self) -> bool:
        """True if there are trajectories at all: at the start of a run, they are still being published."""
        return any(self.queue.counts().values())

    def _look_after_picking(self, child: Child, now: float) -> Outcome:
        result = child.poll()
        if result is None and not (self._draining and now >= self._give_back_at):
            return Outcome.IDLE
        self._picker = None
        child.close()
        if result is not None and result.error is not None:
            self._error = f"nothing was picked: {result.error}"
            logger.error("%s", self._error)
            self._pick_at = time.monotonic() + _RETRY_S
        elif result is not None:
            self._error = ""
            logger.info("picked: %s", result.value)
        return Outcome.WORKED
