"""What a walker says of itself: its state, from which it resumes after a kill, and its events."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlip_autopipec.core.clock import Clock
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.stages.watch import WalkerPlan
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.walkerstate import WalkerState, read_state, write_state

# A person who looks wants no news more often, and every writing waits for the disk.
_NEWS_S = 1.0


class WalkerRecord:
    """Writes `walkers/wNN/state.json` and the walker's events; only the walker itself does.

    Attributes
    ----------
    state : as last noted or saved
    """

    def __init__(self, folder: Path, plan: WalkerPlan, registry: Registry, events: EventLog, clock: Clock) -> None:
        self.state = WalkerState(plan.name, steps=plan.steps, temperature=plan.temperature, seed=plan.seed)
        self._folder = folder
        self._plan = plan
        self._registry = registry
        self._events = events
        self._clock = clock
        self._news_at = float("-inf")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._behind: Future[None] | None = None

    def resume(self) -> WalkerState | None:
        """Take the state of an earlier process up, with the steps that are wanted now; return it as it was."""
        found = read_state(self._folder)
        if found is not None:
            self.state = replace(found, steps=self._plan.steps)
        return found

    def note(self, **changes: Any) -> None:
        """Change the state in memory: a kill before the next `save` forgets it."""
        asked = changes.get("extractions", 0) > self.state.extractions
        self.state = replace(self.state, **changes)
        if asked:
            self.state = replace(self.state, extracted_step=self.state.step)

    def save(self, **changes: Any) -> None:
        """Change the state and write it."""
        self.settle()
        self._due(changes)
        write_state(self._folder, self.state)

    def save_behind(self, first: Callable[[], None], then: Callable[[], None], **changes: Any) -> None:
        """Change the state; do `first`, write the state and do `then` while MD goes on: a disk makes wait long.

        Parameters
        ----------
        first
            Brings to the disk what the state names.
        then
            Removes what it names no more.
        """
        self.settle()
        self._due(changes)
        state = self.state

        def write() -> None:
            first()
            write_state(self._folder, state)
            then()

        self._behind = self._writer.submit(write)

    def settle(self) -> None:
        """Wait until everything is on the disk.

        Raises
        ------
        OSError
            It did not get there; the state on the disk is the one before.
        """
        behind, self._behind = self._behind, None
        if behind is not None:
            behind.result()

    def tell(self) -> None:
        """Write what was noted for people to see, unless they have seen it just now: nobody resumes from it."""
        if self._clock.monotonic() >= self._news_at and (self._behind is None or self._behind.done()):
            self.save()

    def started(self, version: str | None) -> None:
        self._events.emit("md_started", walker=self._plan.name, step=0, version=version)
        self.save(version=version)

    def swapped(self, version: str) -> None:
        """Tell which labels came with the version that is in use from now on."""
        before = self.state.version
        held = set(self._registry.labels(before) if before else ())
        new = [task for task in self._registry.labels(version) if task not in held]
        self._tell("swapped", version=version, from_version=before, task_ids=new)
        self.save(version=version)

    def rewound(self, step: int, reason: str) -> None:
        self._events.emit("rewound", walker=self._plan.name, step=step, version=self.state.version, reason=reason)

    def reseeded(self, reason: str, tasks: list[str]) -> None:
        self._tell("reseeded", task_ids=tasks, seed=self.state.seed, reason=reason)

    def stuck(self, reason: str, tasks: list[str]) -> None:
        self._tell("walker_stuck", task_ids=tasks, reason=reason)
        self.ended("stuck", reason)

    def ended(self, state: str, reason: str) -> None:
        self._tell("md_completed", version=self.state.version, ended=state, reason=reason)
        self.save(state=state, reason=reason, waiting_for="")

    def _due(self, changes: dict[str, Any]) -> None:
        self.note(**changes, updated=self._clock.wall())
        self._news_at = self._clock.monotonic() + _NEWS_S

    def _tell(self, event: str, **facts: Any) -> None:
        self._events.emit(event, walker=self._plan.name, step=self.state.step, **facts)
