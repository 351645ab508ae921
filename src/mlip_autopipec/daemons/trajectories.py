"""The trajectories that an explorer-worker has in work: what is claimed, the child that moves them, what comes of each.

As many are claimed as the child moves at once, and each is answered for by itself: one that fails costs the others
nothing. What is killed goes on from its checkpoint.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import AutopipeError, ConfigError, DataError, QueueError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.core.files import read_json
from mlip_autopipec.daemons.trajectorychild import PROGRESS, Answer, TrajectoryBench, TrajectorySettings
from mlip_autopipec.runtime.child import Child, Result
from mlip_autopipec.stages.exploration import settings_of
from mlip_autopipec.store.claims import Claim
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.rundir import RunDirectory

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A trajectory in work: what is held, the folder of the attempt, and when it began, s."""

    claim: Claim
    folder: Path
    begin: float

    @property
    def id(self) -> str:
        return self.claim.task.id

    def progress(self) -> tuple[int, int]:
        """Return the steps made and those wanted, as the child told last."""
        try:
            told = read_json(self.folder / PROGRESS)
            return int(told["step"]), int(told["steps"])
        except (OSError, DataError, KeyError, TypeError, ValueError):
            return 0, 0


class Trajectories:
    """Claims, has moved, and completes or fails.

    Parameters
    ----------
    queue
        Of trajectories.
    settings
        Of the child.

    Attributes
    ----------
    jobs : what is in work
    explored, failed : how many have ended, and how
    """

    def __init__(self, run: RunDirectory, queue: TaskQueue, events: EventLog, settings: TrajectorySettings) -> None:
        self.jobs: list[Job] = []
        self.explored = self.failed = 0
        self._run = run
        self._queue = queue
        self._events = events
        self._settings = settings
        self._child: Child | None = None
        self._at_once: int | None = None

    def begin(self, now: float) -> bool:
        """Take the next trajectory, and as many more as the child moves at once; False if there is none."""
        if not self._claim(now):
            return False
        if self._child is None:
            name = f"{self._settings.worker} trajectory"
            self._child = Child(TrajectoryBench, (self._settings,), name, serves=True)
        if self._at_once is None:
            # Only the child knows whether there is a GPU: the parent never imports torch.
            self._child.send(settings_of(self.jobs[0].claim.task)["surrogate"])
        else:
            self._send(now)
        return True

    def look(self, now: float) -> bool:
        """See to what the child says; False if it says nothing.

        Raises
        ------
        ConfigError
            This node cannot explore at all; what was in work has been given back.
        QueueError
            A result cannot be written; its task has been given back, and goes on from its frames.
        """
        child = self._child
        result = child.poll() if child is not None else Result(error=AutopipeError("no child"), died=True)
        if result is None:
            return False
        if result.died:
            # One of them may have killed it: alone it cannot harm the others a second time.
            self._at_once = 1 if len(self.jobs) > 1 else self._at_once
            self._end_child()
        if isinstance(result.error, ConfigError):
            # Failing the tasks here would burn the attempts of another node.
            self.give_back(result.error.message)
            raise result.error
        if result.error is None and isinstance(result.value, int):
            self._at_once = result.value
            self._send(now)
        else:
            self._finish(result, now)
        return True

    def cancelled(self, task_ids: Sequence[str]) -> None:
        """Stop what is in work if one of these is among it; the others begin again at their checkpoints."""
        if {job.id for job in self.jobs}.intersection(task_ids):
            self.give_back("cancelled" if len(self.jobs) == 1 else "one that was moved with it was cancelled")

    def give_back(self, reason: str) -> None:
        """Stop what is in work and put the tasks back; their checkpoints stay."""
        jobs, self.jobs = self.jobs, []
        if self._child is not None:
            self._child.kill()
            self._end_child()
        for job in jobs:
            self._queue.give_back(job.claim, reason)
            logger.info("trajectory %s: given back: %s", job.id, reason)

    def rest(self) -> None:
        """End the child, which holds the surrogate in memory; nothing is in work."""
        self._end_child()

    def sources(self) -> Sequence[Connection]:
        """Return what becomes readable when there is news."""
        return self._child.sources() if self._child is not None and self.jobs else []

    def status(self) -> dict[str, Any]:
        """Return what a heartbeat says of them: the hindmost stands for all."""
        if not self.jobs:
            return {}
        steps = [job.progress() for job in self.jobs]
        last = min(range(len(steps)), key=lambda k: steps[k][0])
        told = "/".join(map(str, steps[last])) if steps[last][0] else "0"
        found: dict[str, Any] = {"task": self.jobs[last].id, "step": told}
        return found | ({"at_once": len(self.jobs)} if len(self.jobs) > 1 else {})

    def _claim(self, now: float) -> bool:
        claim = self._queue.claim()
        if claim is None:
            return False
        folder = self._run.attempt(claim.task.id) / f"{claim.attempt:02d}-{self._settings.worker}"
        folder.mkdir(parents=True, exist_ok=True)
        self.jobs.append(Job(claim, folder, now))
        return True

    def _send(self, now: float) -> None:
        while len(self.jobs) < (self._at_once or 1) and self._claim(now):
            pass
        if self._child is not None:
            self._child.send([(job.claim.task.to_dict(), job.folder) for job in self.jobs])

    def _finish(self, result: Result, now: float) -> None:
        jobs, self.jobs = self.jobs, []
        unwritten: QueueError | None = None
        for k, job in enumerate(jobs):
            answer: Answer = result.error or result.value[k]
            try:
                self._answered(job, answer, now)
            except QueueError as error:  # a full disk: the frames stay, and the next attempt goes on from them
                self._queue.give_back(job.claim, str(error))
                unwritten = error
        if result.traceback:
            logger.debug("%s", result.traceback)
        if unwritten is not None:
            raise unwritten

    def _answered(self, job: Job, answer: Answer, now: float) -> None:
        if not isinstance(answer, AutopipeError):
            try:
                first = self._queue.complete(job.claim, answer)
            except DataError as error:
                answer = error
            else:
                self._explored(job, answer, first, now)
                return
        self.failed += 1
        reason = f"{type(answer).__name__}: {answer}"
        outcome = self._queue.fail(job.claim, reason, transient=answer.transient)
        logger.warning("trajectory %s: %s: %s", job.id, outcome, reason)
        self._events.emit("exploration_failed", task_ids=[job.id], reason=reason, outcome=outcome)

    def _explored(self, job: Job, record: dict[str, Any], first: bool, now: float) -> None:
        self.explored += 1
        wanted = settings_of(job.claim.task)
        if first:
            self._events.emit(
                "explored", task_ids=[job.id], config_type=job.claim.task.config_type, frames=record["n_frames"],
                step=record["steps"], temperature=wanted["temperature"], pressure_bar=wanted["pressure_bar"],
                reason=record["complaint"], seconds=round(now - job.begin, 2),
                **{key: record["info"][key] for key in ("device", "at_once", "atom_steps_per_s")},
            )  # fmt: skip
        if record["complaint"]:
            logger.warning("trajectory %s: stopped at step %d: %s", job.id, record["steps"], record["complaint"])
        shutil.rmtree(job.folder, ignore_errors=True)

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
