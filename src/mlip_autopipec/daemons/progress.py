"""Where the run stands, judged by its files: what the supervisor writes to `state.json`."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Literal

from mlip_autopipec.core.errors import DataError, ModelError
from mlip_autopipec.daemons.exploring import Exploration
from mlip_autopipec.runtime.heartbeat import read_heartbeat
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.state import Bootstrap, Phase, WorkflowState
from mlip_autopipec.store.walkerstate import read_all

logger = logging.getLogger(__name__)

TRAINER, RUNNER = "trainer-worker", "otf-runner"


class RunnerEnd:
    """Knows whether the otf-runner of this start has finished: files of walkers may be of before a restart."""

    def __init__(self, run: RunDirectory) -> None:
        self._file = run.heartbeats / f"{RUNNER}.json"
        self._first: tuple[object, object] | None = None  # as first seen, perhaps left by an earlier start

    def is_there(self) -> bool:
        """True once a heartbeat that came after the first look says so; look often from the beginning."""
        beat = read_heartbeat(self._file) or {}
        first, now = self._first, (beat.get("process_start"), beat.get("counter"))
        self._first = self._first or now
        return first is not None and beat.get("state") == "finished" and first != now


class Progress:
    """Reads walkers, queue, registry and the trainer's heartbeat; writes `state.json` when it changes.

    Parameters
    ----------
    walkers
        Names of the walkers that must have ended.
    exploration
        What comes before the first labels; None: nothing.
    """

    def __init__(
        self,
        run: RunDirectory,
        queue: TaskQueue,
        registry: Registry,
        walkers: Collection[str],
        exploration: Exploration | None = None,
    ) -> None:
        self.run = run
        self._queue = queue
        self._registry = registry
        self._walkers = frozenset(walkers)
        self._exploration = exploration
        self._quiet_since: tuple[object, int] | None = None  # the trainer's process and counter at the first rest
        self._runner_end = RunnerEnd(run)
        self.state = self._earlier()
        self.phase: Phase | None = None  # as judged in this process; `state` may be one of an earlier start

    def update(self) -> Phase:
        """Judge again; returns the phase."""
        pending = self._queue.unfinished()
        generation = self._generation()
        phase: Phase = "otf" if generation else "bootstrap"
        if generation and pending == 0 and (ended := self._walkers_ended()) and self._runner_end.is_there():
            phase = ended if self._all_ingested() else phase
        else:
            self._quiet_since = None
        self.phase = phase
        state = WorkflowState(generation, phase, pending, *self._bootstrap(phase, pending))
        if state != self.state or not self.run.state.exists():
            if phase != self.state.phase:
                logger.info("phase %s -> %s", self.state.phase, phase)
            state.write(self.run.state)
            self.state = state
        return phase

    def _bootstrap(self, phase: Phase, pending: int) -> tuple[Bootstrap, int]:
        """Return what the bootstrap waits for, and how many trajectories are under way."""
        if phase != "bootstrap":
            return "", 0
        if self._exploration is not None and not self._exploration.is_over():
            under_way = self._exploration.trajectories()
            return ("exploring" if under_way else "picking"), under_way
        return ("labelling" if pending else "training"), 0

    def _earlier(self) -> WorkflowState:
        try:
            return WorkflowState.read(self.run.state) or WorkflowState()
        except DataError as error:  # it is made anew from the files
            logger.warning("%s", error)
            return WorkflowState()

    def _generation(self) -> int:
        try:
            current = self._registry.current()
        except ModelError as error:
            logger.warning("%s", error)
            return self.state.generation
        return int(current.version.lstrip("v")) if current else 0

    def _walkers_ended(self) -> Literal["done", "stuck"] | None:
        """Return how the walkers of this run ended, None while one has not."""
        try:
            ended = {walker.name: walker for walker in read_all(self.run.walkers) if walker.ended}
        except DataError as error:
            logger.warning("%s", error)
            return None
        if not self._walkers <= set(ended):
            return None
        return "stuck" if any(ended[name].gave_up for name in self._walkers) else "done"

    def _all_ingested(self) -> bool:
        """True if the trainer, looking after everything else had come to rest, found nothing left to take in."""
        beat = read_heartbeat(self.run.heartbeats / f"{TRAINER}.json") or {}
        process, counter = beat.get("process_start"), int(beat.get("counter", 0))
        if self._quiet_since is None or self._quiet_since[0] != process:
            self._quiet_since = (process, counter)
        # The beat after the first may still tell of a look that was made before.
        fresh = counter >= self._quiet_since[1] + 2
        return fresh and beat.get("detail", {}).get("uningested") == 0
