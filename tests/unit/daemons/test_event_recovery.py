"""Files prove what happened: missing events are told again, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import bulk

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.daemons.event_merge import EventMerger
from mlip_autopipec.daemons.event_recovery import EventRecovery
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import Results, make_result
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task

NOW = "2026-01-01T00:00:00.000Z"


class Run:
    """A run directory with queue, merger and recovery."""

    def __init__(self, root: Path) -> None:
        self.run = RunDirectory(root)
        self.run.create()
        self.clock = ManualClock(0.0)
        results = Results(self.run.results)
        self.queue = TaskQueue(self.run.queue / "dft", results, worker="w", attempts=self.run.attempts)
        self.registry = Registry(self.run.potentials)
        self.merger = EventMerger(self.run.events, self.run.merged_events, patience_s=10, clock=self.clock)
        self.recovery = EventRecovery(
            self.queue, results, self.registry, self.merger, EventLog(self.run.events, "supervisor", self.clock),
            after_s=3.0, clock=self.clock,
        )  # fmt: skip

    def scan_twice(self) -> list[tuple[str, list[str]]]:
        self.recovery.scan()
        self.clock.advance(3.0)
        self.recovery.scan()
        return self.told()

    def told(self) -> list[tuple[str, list[str]]]:
        self.merger.merge()
        text = self.run.merged_events.read_text() if self.run.merged_events.exists() else ""
        return [(r["event"], r["task_ids"]) for r in map(json.loads, text.splitlines()) if r.get("recovered")]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def new_task(origin: dict[str, Any]) -> Task:
    return Task.new(
        bulk("Al"), [1], {"engine": "teacher"}, priority=7.0, origin=origin, config_type="test", created=NOW
    )


def test_a_task_without_event_is_told_with_its_gamma(run: Run) -> None:
    task = new_task({"walker": "w00", "step": 5, "version": "v0001"})
    run.queue.publish(task)
    assert run.scan_twice() == [("gamma_exceeded", [task.id]), ("task_published", [task.id])]
    record = json.loads(run.run.merged_events.read_text().splitlines()[0])
    assert (record["walker"], record["step"], record["version"], record["gamma"]) == ("w00", 5, "v0001", 7.0)


def test_a_bootstrap_task_has_no_gamma_event(run: Run) -> None:
    task = new_task({"source": "bootstrap"})
    run.queue.publish(task)
    assert run.scan_twice() == [("task_published", [task.id])]


def test_a_result_without_event_is_told_after_its_claim(run: Run) -> None:
    task = new_task({"source": "bootstrap"})
    run.queue.publish(task)
    claim = run.queue.claim()
    assert claim is not None
    EventLog(run.run.events, "w", run.clock).emit("task_claimed", task_ids=[task.id])
    run.queue.complete(claim, make_result(task, Label(1.0, np.zeros((1, 3)), None), "w", NOW))
    assert run.scan_twice() == [("task_published", [task.id]), ("label_done", [task.id])]


def test_a_label_told_again_says_whose_it_is(run: Run) -> None:
    task = new_task({"walker": "w00", "step": 5, "version": "v0001"})
    run.queue.publish(task)
    claim = run.queue.claim()
    assert claim is not None
    run.queue.complete(claim, make_result(task, Label(1.0, np.zeros((1, 3)), None), "w", NOW))
    run.recovery.scan(final=True)
    run.merger.merge(final=True)
    record = json.loads(run.run.merged_events.read_text().splitlines()[-1])
    assert record["event"] == "label_done"
    assert (record["walker"], record["step"], record["version"], record["gamma"]) == ("w00", 5, "v0001", 7.0)
    assert record["worker"] == "w"


def test_what_has_its_events_is_not_told_again(run: Run) -> None:
    task = new_task({"source": "bootstrap"})
    run.queue.publish(task)
    run.recovery.scan()
    EventLog(run.run.events, "w", run.clock).emit("task_published", task_ids=[task.id])  # a moment later
    run.merger.merge()
    run.clock.advance(3.0)
    assert run.recovery.scan() == 0
    assert run.told() == []


def test_the_final_scan_does_not_wait(run: Run) -> None:
    run.queue.publish(new_task({"source": "bootstrap"}))
    assert run.recovery.scan() == 0
    assert run.recovery.scan(final=True) == 1


def test_a_version_without_event_is_told_with_its_tasks(run: Run) -> None:
    folder = run.registry.path("v0001")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"version": "v0001", "task_ids": ["a" * 20]}))
    run.scan_twice()
    run.merger.merge(final=True)
    record = json.loads(run.run.merged_events.read_text())
    assert (record["event"], record["version"], record["task_ids"]) == ("version_published", "v0001", ["a" * 20])


def test_a_damaged_result_is_left_for_later(run: Run) -> None:
    task_id = "c" * 20
    path = Results(run.run.results).path(task_id)
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert run.scan_twice() == []
