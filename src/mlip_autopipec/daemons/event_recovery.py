"""Emits again, with `recovered: true`, what files prove to have happened but no event tells.

A process that is killed between an effect (a result, a version, a task file) and its event leaves such a gap. The
files are the truth.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from mlip_autopipec.core.clock import Clock, SystemClock
from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.event_merge import EventMerger, Fact
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.task import Task

logger = logging.getLogger(__name__)

_STATES = ("pending", "delayed", "running", "done", "failed")


class EventRecovery:
    """Compares the files with what the merger knows.

    Parameters
    ----------
    after_s
        How long a gap must last before it counts, s: the event of a living process comes after its effect.
    """

    def __init__(
        self,
        queue: TaskQueue,
        results: Results,
        registry: Registry,
        merger: EventMerger,
        events: EventLog,
        *,
        after_s: float,
        clock: Clock | None = None,
    ) -> None:
        self._queue = queue
        self._results = results
        self._registry = registry
        self._merger = merger
        self._events = events
        self._after_s = after_s
        self._clock = clock or SystemClock()
        self._missing_since: dict[Fact, float] = {}

    def scan(self, *, final: bool = False) -> int:
        """Look for gaps and fill those that last; `final` (no other process runs) fills all. Returns how many."""
        now = self._clock.monotonic()
        gaps = {fact: fill for fact, fill in self._proven() if not self._merger.knows(fact)}
        self._missing_since = {fact: self._missing_since.get(fact, now) for fact in gaps}
        filled = 0
        for fact, since in self._missing_since.items():
            if final or now - since >= self._after_s:
                filled += self._fill(fact, gaps[fact])
        return filled

    def _proven(self) -> Iterator[tuple[Fact, Callable[[], None]]]:
        for state in _STATES:
            for _, task_id, _, path in self._queue.ls(state):
                yield ("task_published", task_id), lambda path=path: self._tell_task(Task.read(path))  # type: ignore[misc]
        for task_id in self._results.ids():
            yield ("label_done", task_id), lambda task_id=task_id: self._tell_label(task_id)  # type: ignore[misc]
        for version in self._registry.versions():
            yield ("version_published", version), lambda version=version: self._tell_version(version)  # type: ignore[misc]

    def _fill(self, fact: Fact, fill: Callable[[], None]) -> bool:
        try:
            fill()
        except (AutopipeError, OSError) as error:  # moved or edited by hand meanwhile: the next scan sees
            logger.info("%s of %s: not recovered yet: %s", *fact, error)
            return False
        logger.info("%s of %s: its event was missing, told again", *fact)
        return True

    def _tell_task(self, task: Task) -> None:
        told = _origin(task)
        if "walker" in told and "collected" not in told and not self._merger.knows(("gamma_exceeded", task.id)):
            self._emit("gamma_exceeded", task_ids=[task.id], **told)
        self._emit("task_published", task_ids=[task.id], **told)

    def _tell_label(self, task_id: str) -> None:
        record = self._results.read(task_id)
        told = _origin(Task.from_dict(record["task"]))
        self._emit(
            "label_done", task_ids=[task_id], **told, worker=record.get("worker"), finished=record.get("finished")
        )

    def _tell_version(self, version: str) -> None:
        manifest = self._registry.manifest(version)
        new = manifest.get("new_task_ids", manifest.get("task_ids", []))
        self._emit("version_published", version=version, parent=manifest.get("parent"), task_ids=list(new))

    def _emit(self, event: str, **fields: Any) -> None:
        self._events.emit(event, recovered=True, **fields)


def _origin(task: Task) -> dict[str, Any]:
    told: dict[str, Any] = {
        key: task.origin[key] for key in ("walker", "step", "version", "collected") if key in task.origin
    }
    return {**told, "gamma": task.priority}
