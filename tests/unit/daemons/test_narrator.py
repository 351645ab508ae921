"""What a person at the terminal is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlip_autopipec.core.events import EVENTS
from mlip_autopipec.daemons.narrator import Narrator, line_of
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.state import WorkflowState
from mlip_autopipec.store.walkerstate import WalkerState, write_state

ID = "1b1a" + "0" * 16


@pytest.mark.parametrize(
    ("event", "fields", "line"),
    [
        (
            "gamma_exceeded",
            {"walker": "w02", "step": 220, "gamma": 5.94, "task_ids": [ID]},
            "w02 step 220: gamma 5.94 above 5 -> task 1b1a0000",
        ),
        (
            "gamma_exceeded",
            {"walker": "w02", "step": 220, "gamma": 5.94, "task_ids": []},
            "w02 step 220: gamma 5.94 above 5",
        ),
        (
            "carve_refused",
            {"walker": "w02", "step": 220, "reason": "no cell is faithful"},
            "w02 step 220: nothing sent to labelling: no cell is faithful",
        ),
        (
            "heal_failed",
            {"walker": "w02", "step": 220, "gamma": 7.0, "version": "v0003", "task_ids": [ID]},
            "w02 step 220: v0003 has the label of task 1b1a0000, but gamma 7 is still above 5: a larger cell follows",
        ),
        ("version_published", {"version": "v0002", "task_ids": [ID] * 3}, "v0002 published with 3 new labels"),
        ("swapped", {"walker": "w02", "version": "v0002", "step": 220}, "w02 swapped to v0002 at step 220"),
        ("label_done", {"walker": "w02", "task_ids": [ID]}, "task 1b1a0000 of w02 labelled"),
        (
            "label_failed",
            {"task_ids": [ID], "outcome": "failed", "reason": "NotConverged: no"},
            "task 1b1a0000: no label (failed): NotConverged: no",
        ),
        ("md_completed", {"walker": "w00", "step": 9, "ended": "done", "reason": ""}, "w00 done at step 9"),
        ("label_done", {"task_ids": [ID]}, None),
        ("task_published", {"task_ids": [ID], "walker": "w02"}, None),
    ],
)
def test_an_event_is_one_line(event: str, fields: dict[str, Any], line: str | None) -> None:
    assert line_of({"event": event, **fields}, 5.0) == line


def test_no_event_is_unknown_and_none_needs_a_field() -> None:
    silent = {event for event in EVENTS if line_of({"event": event, "walker": "w00"}, 5.0) is None}
    assert silent == {"task_published", "task_claimed"}


def test_the_summary_comes_every_five_seconds_if_something_moves(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.create()
    said: list[str] = []
    narrator = Narrator(run, 5.0, said.append)
    narrator.look(100.0, WorkflowState(0, "bootstrap", 4))
    run.walker("w00").mkdir()
    write_state(run.walker("w00"), WalkerState("w00", state="running", step=300, steps=1000))
    run.walker("w01").mkdir()
    write_state(run.walker("w01"), WalkerState("w01", state="halted", step=220, steps=1000))
    for now in (104.9, 105.0, 110.0, 115.0):
        narrator.look(now, WorkflowState(3, "otf", 1))
    assert said == [
        "labels 0 (4 waiting), no potential yet",
        "w00 300/1000, w01 220/1000 halted, labels 0 (1 waiting), v0003",
    ]


def test_a_closed_terminal_does_not_end_the_run(tmp_path: Path) -> None:
    calls: list[str] = []

    def closed(line: str) -> None:
        calls.append(line)
        raise BrokenPipeError

    narrator = Narrator(RunDirectory(tmp_path), 5.0, closed)
    narrator.tell([{"event": "swapped", "walker": "w00", "version": "v0001", "step": 1}] * 2)
    assert len(calls) == 1


def test_a_failing_trainer_and_the_labels_of_the_start_are_told(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.create()
    said: list[str] = []
    beat = {"labels": 60, "error": "killed by SIGKILL"}
    Heartbeat(run.heartbeats / "trainer-worker.json", "trainer-worker").beat("failing", beat)
    Narrator(run, 5.0, said.append).look(100.0, WorkflowState(0, "bootstrap", 0))
    assert said == ["trainer-worker is failing: killed by SIGKILL, labels 60 (0 waiting), no potential yet"]


@pytest.mark.parametrize(("phase", "last"), [("otf", "not done: autopipe otf start"), ("stuck", "autopipe otf revive")])
def test_at_the_end_of_a_run_that_is_not_done_it_is_told_why(tmp_path: Path, phase: Any, last: str) -> None:
    run = RunDirectory(tmp_path)
    run.create()
    run.walker("w00").mkdir()
    write_state(run.walker("w00"), WalkerState("w00", state="stuck", step=300, steps=1000, reason="no luck"))
    said: list[str] = []
    Narrator(run, 5.0, said.append).part(WorkflowState(1, phase, 0))
    assert last in said[-1]
    assert ("w00 is stuck at step 300/1000: no luck" in said) == (phase == "stuck")
