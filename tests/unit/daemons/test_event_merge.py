"""The merged log: causal for every interleaving, each line once whatever is killed, bounded patience."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.events import TASK_STORY, EventLog
from mlip_autopipec.daemons.event_merge import EventMerger, append_bytes

Story = dict[str, list[dict[str, Any]]]
A, B = "a" * 20, "b" * 20


class Killed(BaseException):
    """The process was killed here."""


class Desk:
    """A folder of event files, its merger, and a clock."""

    def __init__(self, root: Path, patience_s: float = 10.0) -> None:
        self.folder, self.merged = root / "events", root / "events.jsonl"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clock = ManualClock(0.0)
        self.patience_s = patience_s
        self.bytes_to_live: int | None = None
        self.restart()

    def restart(self) -> None:
        self.merger = EventMerger(
            self.folder, self.merged, patience_s=self.patience_s, clock=self.clock, append=self._append
        )

    def _append(self, path: Path, data: bytes) -> None:
        if self.bytes_to_live is not None and len(data) > self.bytes_to_live:
            append_bytes(path, data[: self.bytes_to_live])
            self.bytes_to_live = None
            raise Killed
        append_bytes(path, data)

    def emit(self, process: str, event: str, **fields: Any) -> None:
        self.clock.advance(0.001)
        EventLog(self.folder, process, self.clock).emit(event, **fields)

    def merge(self, **options: Any) -> list[dict[str, Any]]:
        return self.merger.merge(**options)

    def output(self) -> list[dict[str, Any]]:
        text = self.merged.read_text() if self.merged.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def names(self) -> list[str]:
        return [record["event"] for record in self.output()]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Return what each process wrote, in an order that could have happened: tasks, workers, one trainer, walkers."""
    files: Story = {}
    version = 0
    labelled: list[str] = []
    for number in range(draw(st.integers(1, 5))):
        task = f"{number:020d}"
        walker, worker = draw(st.sampled_from(["w00", "w01"])), draw(st.sampled_from(["dft-0", "dft-1"]))
        if draw(st.booleans()):
            files.setdefault(walker, []).append({"event": "gamma_exceeded", "task_ids": [task], "walker": walker})
            files[walker].append({"event": "task_published", "task_ids": [task], "walker": walker})
        else:
            files.setdefault("supervisor", []).append({"event": "task_published", "task_ids": [task]})
        if draw(st.booleans()):  # the first attempt fails somewhere else
            files.setdefault("dft-0", []).append({"event": "task_claimed", "task_ids": [task]})
            files["dft-0"].append({"event": "label_failed", "task_ids": [task]})
            worker = "dft-0"
        files.setdefault(worker, []).append({"event": "task_claimed", "task_ids": [task]})
        files[worker].append({"event": "label_done", "task_ids": [task]})
        labelled.append(task)
        if draw(st.booleans()):
            version += 1
            name = f"v{version:04d}"
            files.setdefault("trainer", []).append({"event": "train_started", "task_ids": list(labelled)})
            files["trainer"].append({"event": "version_published", "version": name, "task_ids": list(labelled)})
            for swapper in draw(st.sets(st.sampled_from(["w00", "w01"]))):
                files.setdefault(swapper, []).append({"event": "swapped", "version": name, "task_ids": [task]})
    return files


def check_causal(records: list[dict[str, Any]]) -> None:
    """For every task the story is in order, and nobody swaps to a version that is not published."""
    first: dict[tuple[str, str], int] = {}
    for index, record in enumerate(records):
        for task in record.get("task_ids", []):
            first.setdefault((record["event"], task), index)
        if record["event"] == "version_published":
            first.setdefault(("version", record["version"]), index)
        if record["event"] == "swapped":
            assert first[("version", record["version"])] < index
    for task in {task for _, task in first}:
        told = [first[(name, task)] for name in TASK_STORY[:-1] if (name, task) in first]
        assert told == sorted(told)


@settings(max_examples=60, deadline=None)
@given(story=stories(), data=st.data())
def test_any_interleaving_and_any_kill_gives_each_line_once_in_causal_order(story: Story, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        desk = Desk(Path(folder))
        left = {process: list(events) for process, events in story.items()}
        while any(left.values()):
            process = data.draw(st.sampled_from(sorted(p for p, events in left.items() if events)))
            desk.emit(process, **left[process].pop(0))
            if data.draw(st.booleans()):
                desk.bytes_to_live = data.draw(st.none() | st.integers(0, 600))
                try:
                    desk.merge()
                except Killed:
                    desk.restart()
        desk.bytes_to_live = None
        desk.merge()
        records = desk.output()
        check_causal(records)
        assert not [record for record in records if "late" in record]
        for process, events in story.items():
            mine = [r for r in records if r["process"] == process]
            assert [r["source"] for r in mine] == [f"{process}:{n + 1}" for n in range(len(events))]
            assert [{k: r[k] for k in e} for r, e in zip(mine, events, strict=True)] == events
        assert len(records) == sum(len(events) for events in story.values())
        desk.restart()
        assert desk.merge() == []


def test_an_effect_waits_for_its_cause(desk: Desk) -> None:
    desk.emit("dft-0", "task_claimed", task_ids=[A])
    desk.emit("dft-0", "label_done", task_ids=[A])
    assert desk.merge() == []
    desk.emit("w00", "gamma_exceeded", task_ids=[A], walker="w00")
    desk.emit("w00", "task_published", task_ids=[A], walker="w00")
    desk.merge()
    assert desk.names() == ["gamma_exceeded", "task_published", "task_claimed", "label_done"]


def test_bootstrap_tasks_wait_for_no_gamma(desk: Desk) -> None:
    desk.emit("supervisor", "task_published", task_ids=[A])
    desk.emit("w00", "task_published", task_ids=[B], walker="w00")
    desk.merge()
    assert [(r["event"], r["task_ids"]) for r in desk.output()] == [("task_published", [A])]


def test_patience_is_bounded_and_only_the_culprit_is_late(desk: Desk) -> None:
    desk.emit("dft-0", "label_done", task_ids=[A])  # never claimed by anybody
    desk.emit("trainer", "train_started", task_ids=[A])
    desk.merge()
    desk.clock.advance(9.9)
    assert desk.merge() == []
    desk.clock.advance(0.2)
    desk.merge()
    assert [(r["event"], r.get("late", False)) for r in desk.output()] == [
        ("label_done", True),
        ("train_started", False),
    ]
    assert desk.merger.late == 1


def test_the_final_merge_waits_for_nothing(desk: Desk) -> None:
    desk.emit("w00", "swapped", version="v0009", task_ids=[A])
    assert desk.merge() == []
    assert desk.merger.waiting == 1
    assert [r["late"] for r in desk.merge(final=True)] == [True]


def test_labels_that_the_user_gave_have_no_story_to_wait_for(desk: Desk) -> None:
    desk.merger = EventMerger(
        desk.folder, desk.merged, patience_s=10.0, clock=desk.clock, has_result=lambda task_id: task_id == A
    )
    desk.emit("trainer", "train_started", task_ids=[A, B])
    assert desk.merge() == []
    for process, event in (("supervisor", "task_published"), ("dft-0", "task_claimed"), ("dft-0", "label_done")):
        desk.emit(process, event, task_ids=[A])
    desk.merge()
    assert desk.names()[-1] == "train_started"
    assert not desk.merger.late


def test_lines_that_are_no_events_are_left_out_and_named(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.emit("w00", "md_started", walker="w00")
    with (desk.folder / "w00.jsonl").open("a") as file:
        file.write('{"event": "md_com{"no": 1}\n[]\n')
    desk.emit("w00", "md_completed", walker="w00")
    desk.merge()
    assert desk.names() == ["md_started", "md_completed"]
    assert "w00.jsonl:2" in caplog.text
    assert "w00.jsonl:3" in caplog.text
    desk.restart()
    assert desk.merge() == []


def test_a_half_written_line_waits_for_its_end(desk: Desk) -> None:
    line = json.dumps({"time": "t", "event": "md_started", "process": "w00"})
    file = desk.folder / "w00.jsonl"
    file.write_text(line[:20])
    assert desk.merge() == []
    file.write_text(line + "\n")
    assert len(desk.merge()) == 1


def test_a_recovered_event_is_left_out_if_the_original_is_known(desk: Desk) -> None:
    desk.emit("supervisor", "task_published", task_ids=[A])
    desk.emit("dft-0", "task_claimed", task_ids=[A])
    desk.emit("dft-0", "label_done", task_ids=[A])
    desk.merge()
    desk.emit("supervisor", "label_done", task_ids=[A], recovered=True)
    assert desk.merge() == []
    desk.restart()
    assert desk.merge() == []


def test_an_original_that_comes_after_its_recovery_is_left_out(desk: Desk) -> None:
    desk.emit("supervisor", "task_published", task_ids=[A])
    desk.emit("dft-0", "task_claimed", task_ids=[A])
    desk.emit("supervisor", "label_done", task_ids=[A], recovered=True)
    desk.merge()
    desk.restart()
    desk.emit("dft-0", "label_done", task_ids=[A])  # the worker was only slow
    desk.merge()
    assert desk.names() == ["task_published", "task_claimed", "label_done"]
    desk.emit("dft-0", "task_claimed", task_ids=[A])  # requeued by the user: a new label
    desk.emit("dft-0", "label_done", task_ids=[A])
    desk.merge()
    assert desk.names()[3:] == ["task_claimed", "label_done"]


def test_recovered_events_do_not_block_each_other(desk: Desk) -> None:
    """The first waits for a claim that stands behind a claim that waits for the second."""
    desk.emit("supervisor", "label_done", task_ids=[A], recovered=True)
    desk.emit("supervisor", "task_published", task_ids=[B], recovered=True)
    desk.emit("dft-0", "task_claimed", task_ids=[B])
    desk.emit("dft-0", "task_claimed", task_ids=[A])
    desk.emit("w00", "task_published", task_ids=[A])
    desk.merge()
    check_causal(desk.output())
    assert len(desk.output()) == 5
    assert not desk.merger.late


def test_a_full_disk_is_waited_for_and_half_a_batch_is_written_once(desk: Desk) -> None:
    desk.emit("w00", "md_started", walker="w00")
    desk.merge()

    def full(path: Path, data: bytes) -> None:
        append_bytes(path, data[:20])
        raise OSError(28, "No space left on device")

    desk.merger._append = full
    desk.emit("w00", "md_completed", walker="w00")
    desk.merge()
    desk.emit("w01", "md_started", walker="w01")
    desk.merge()
    desk.merger._append = append_bytes
    desk.merge()
    assert desk.names() == ["md_started", "md_completed", "md_started"]
    desk.restart()
    assert desk.merge() == []
