"""explorer-worker: claims trajectories, has them made in a child process, then picks what is worth a label.

It writes results and tasks only. A kill costs the seconds since the last checkpoint: whoever takes the task up goes on
from there, on whatever host.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlip_autopipec.core.errors import AutopipeError, ConfigError, DataError, QueueError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.core.files import read_json
from mlip_autopipec.daemons.exploring import Exploration
from mlip_autopipec.daemons.picking import pick
from mlip_autopipec.daemons.queues import explore_queue
from mlip_autopipec.daemons.seeding import picking_settings
from mlip_autopipec.daemons.trajectorychild import PROGRESS, TrajectoryBench, TrajectorySettings
from mlip_autopipec.runtime.child import Child, Result
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.exploration import settings_of
from mlip_autopipec.store.claims import Claim
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


@dataclass(frozen=True)
class _Job:
    """The trajectory in work: what is held, and the folder of the attempt."""

    claim: Claim
    folder: Path
    begin: float

    @property
    def id(self) -> str:
        return self.claim.task.id


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
        self._bench = TrajectorySettings(run.root, name, config.explore.surrogate.device, checkpoint_s)
        self._picking = picking_settings(run, config, name)
        self._ends = ends
        self._beat_s = min(_LONGEST_BEAT_S, config.queue.lease_s / _BEATS_PER_LEASE)
        self._sweep_s = config.queue.lease_s / _SWEEPS_PER_LEASE
        self._grace_s = config.supervisor.label_grace_s
        self._next_beat = self._next_look = self._pick_at = float("-inf")
        self._child: Child | None = None
        self._picker: Child | None = None
        self._job: _Job | None = None
        self._draining = False
        self._give_back_at = float("inf")
        self._done = self._failed = 0
        self._error = ""

    # --- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Nothing to prepare: a run that is beyond its exploration needs no child."""

    def step(self, now: float) -> Outcome:
        """Beat; look after the trajectory or the picking, or begin the next."""
        if now >= self._next_beat:
            self._next_beat = now + self._beat_s
            self._beat()
        if self._draining:
            self._give_back_at = min(self._give_back_at, now + self._grace_s)
        if self._picker is not None:
            return self._look_after_picking(self._picker, now)
        if self._job is not None:
            return self._look(self._job, now)
        if self._draining or (self._ends and self._exploration.is_over()):
            return Outcome.DONE
        if now < self._next_look or self.control.wants("pause"):
            return Outcome.IDLE
        if self._exploration.is_over():
            self._end_child()
            self._error = ""  # another worker may have picked
            self._next_look = now + _LOOK_S
            return Outcome.IDLE
        return self._begin(now)

    def drain(self) -> None:
        """Begin nothing any more; the trajectory in work gets the grace time, then its task goes back."""
        self._draining = True

    def close(self) -> None:
        """Give back what is held and leave no process (idempotent)."""
        if self._job is not None:
            self._return("worker ended")
        for child in (self._child, self._picker):
            if child is not None:
                child.close()
        self._child = self._picker = None
        self.queue.release()

    def status(self) -> tuple[str, dict[str, Any]]:
        detail: dict[str, Any] = {"explored": self._done, "failed": self._failed}
        if self._job is not None:
            detail |= {"task": self._job.id, "step": self._progress(self._job)}
        if self._error:
            return "failing", {**detail, "error": self._error}
        if self._picker is not None:
            return "picking", detail
        if self._job is not None:
            return "exploring", detail
        return "paused" if self.control.wants("pause") else "idle", detail

    def wake_folder(self) -> Path:
        """Where published tasks appear."""
        return self.queue.layout.pending

    def waits_for(self) -> Sequence[Connection]:
        """What becomes readable when the child has news."""
        child = self._picker or (self._child if self._job is not None else None)
        return child.sources() if child is not None else []

    # --- trajectories -----------------------------------------------------------------------------------------

    def _begin(self, now: float) -> Outcome:
        claim = self.queue.claim()
        if claim is None:
            for action in self.queue.sweep(every_s=self._sweep_s):
                logger.info("sweep: %s", action)
            claim = self.queue.claim()
        if claim is None:
            return self._begin_picking(now)
        folder = self.run.attempt(claim.task.id) / f"{claim.attempt:02d}-{self.name}"
        folder.mkdir(parents=True, exist_ok=True)
        self._job = _Job(claim, folder, now)
        if self._child is None:
            self._child = Child(TrajectoryBench, (self._bench,), f"{self.name} trajectory", serves=True)
        self._child.send((claim.task.to_dict(), folder))
        return Outcome.WORKED

    def _look(self, job: _Job, now: float) -> Outcome:
        child = self._child
        result = child.poll() if child is not None else Result(error=AutopipeError("no child"), died=True)
        if result is not None:
            return self._finish(job, result, now)
        if now >= self._give_back_at:
            self._return("worker drained before the trajectory was done")
            return Outcome.WORKED
        return Outcome.IDLE

    def _finish(self, job: _Job, result: Result, now: float) -> Outcome:
        if result.died:
            self._end_child()
        if isinstance(result.error, ConfigError):
            # This node cannot explore at all: failing the task here would burn the attempts of another.
            self._return(result.error.message)
            raise result.error
        if result.error is None:
            try:
                first = self.queue.complete(job.claim, result.value)
            except QueueError as error:  # a full disk: the frames stay, and the next attempt goes on from them
                self._return(str(error))
                self._next_look = now + _RETRY_S
                return Outcome.IDLE
            except DataError as error:
                result = Result(error=error)
            else:
                self._explored(job, result.value, first, now)
                return Outcome.WORKED
        self._fail(job, result)
        return Outcome.WORKED

    def _explored(self, job: _Job, record: dict[str, Any], first: bool, now: float) -> None:
        self._job = None
        self._done += 1
        wanted = settings_of(job.claim.task)
        if first:
            self.events.emit(
                "explored", task_ids=[job.id], config_type=job.claim.task.config_type, frames=record["n_frames"],
                step=record["steps"], temperature=wanted["temperature"], pressure_bar=wanted["pressure_bar"],
                reason=record["complaint"], seconds=round(now - job.begin, 2),
            )  # fmt: skip
        if record["complaint"]:
            logger.warning("trajectory %s: stopped at step %d: %s", job.id, record["steps"], record["complaint"])
        shutil.rmtree(job.folder, ignore_errors=True)

    def _fail(self, job: _Job, result: Result) -> None:
        self._job = None
        self._failed += 1
        error = result.error or AutopipeError("it ended without an answer", transient=True)
        reason = f"{type(error).__name__}: {error}"
        outcome = self.queue.fail(job.claim, reason, transient=error.transient)
        logger.warning("trajectory %s: %s: %s", job.id, outcome, reason)
        if result.traceback:
            logger.debug("%s", result.traceback)
        self.events.emit("exploration_failed", task_ids=[job.id], reason=reason, outcome=outcome)

    def _return(self, reason: str) -> None:
        """Stop the trajectory in work and put its task back; its checkpoint stays."""
        job, self._job = self._job, None
        if self._child is not None:
            self._child.kill()
            self._end_child()
        if job is not None:
            self.queue.give_back(job.claim, reason)
            logger.info("trajectory %s: given back: %s", job.id, reason)

    def _beat(self) -> None:
        if self._job is not None and self._job.id in self.queue.beat():
            self._return("cancelled")

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    @staticmethod
    def _progress(job: _Job) -> str:
        try:
            told = read_json(job.folder / PROGRESS)
            return f"{told['step']}/{told['steps']}"
        except (OSError, DataError, KeyError, TypeError):
            return "0"

    # --- picking ----------------------------------------------------------------------------------------------

    def _begin_picking(self, now: float) -> Outcome:
        """Pick once every trajectory has ended, whoever made it."""
        self._next_look = now + _LOOK_S
        if now < self._pick_at or not self._published() or self._exploration.trajectories():
            return Outcome.IDLE
        self._end_child()
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
