"""What the trainer and the walkers remove, and what they leave alone."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from mlip_autopipec.core.events import EventLog, read_events
from mlip_autopipec.daemons.retention import Retention
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import RetentionSettings
from mlip_autopipec.store.walkerstate import WalkerState, write_state

DAY_S = 86_400.0


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    run.create()
    return run


def retention(run: RunDirectory, **settings: Any) -> Retention:
    return Retention(
        run, RetentionSettings(**settings), Registry(run.potentials), Results(run.results), EventLog(run.events, "t")
    )


def attempt(run: RunDirectory, task: str, *, labelled: bool, days_ago: float) -> Path:
    folder = run.attempt(task) / "01-dft"
    folder.mkdir(parents=True)
    (folder / "espresso.pwo").write_text("...")
    then = time.time() - days_ago * DAY_S
    for path in (folder, folder.parent):
        os.utime(path, (then, then))
    if labelled:
        path = Results(run.results).path(task)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    return folder.parent


def test_by_default_everything_stays(run: RunDirectory) -> None:
    folder = attempt(run, "a" * 20, labelled=True, days_ago=1000)
    looks = retention(run)
    for now in range(0, 5000, 100):
        looks.look(float(now))
    assert folder.exists()


def test_old_attempts_at_finished_labels_go(run: RunDirectory) -> None:
    old = [attempt(run, f"{k:020x}", labelled=True, days_ago=8) for k in range(120)]
    stay = [
        attempt(run, "b" * 20, labelled=True, days_ago=6),
        attempt(run, "c" * 20, labelled=False, days_ago=100),  # a failed task: its refused label is judged again
    ]
    other = run.attempts / "history" / "00"
    other.mkdir(parents=True)
    looks = retention(run, attempts_days=7)
    looks.look(0.0)
    assert sum(folder.exists() for folder in old) in (
        70,
        71,
        72,
    )  # of 50 folders, three are not to go: a step stays short
    looks.look(0.1)
    looks.look(0.2)
    assert not any(folder.exists() for folder in old)
    assert all(folder.exists() for folder in [*stay, other])


def publish(run: RunDirectory, count: int) -> None:
    registry = Registry(run.potentials)
    for _ in range(count):
        work = registry.new_work_folder()
        for name in FILES:
            (work / name).write_text("{}")
        registry.publish(work, {"task_ids": []})


def test_versions_go_once_nobody_needs_them(run: RunDirectory) -> None:
    publish(run, 5)
    run.walker("w00").mkdir()
    write_state(run.walker("w00"), WalkerState("w00", state="halted", version="v0002"))
    looks = retention(run, versions=2)
    looks.look(0.0)
    assert Registry(run.potentials).versions() == ["v0002", "v0004", "v0005"]
    write_state(run.walker("w00"), WalkerState("w00", state="running", version="v0005"))
    looks.look(20.0)
    assert Registry(run.potentials).versions() == ["v0004", "v0005"]
    told = [(e["event"], e["version"]) for e in read_events(run.events / "t.jsonl")]
    assert told == [("version_retired", v) for v in ("v0001", "v0003", "v0002")]


def test_damage_stops_it_and_is_told_once(run: RunDirectory, caplog: pytest.LogCaptureFixture) -> None:
    publish(run, 5)
    run.walker("w00").mkdir()
    (run.walker("w00") / "halt.json").write_text(json.dumps([1])[:-1])
    looks = retention(run, versions=2)
    for now in (0.0, 20.0, 40.0):
        looks.look(now)
    assert len(Registry(run.potentials).versions()) == 5
    assert caplog.text.count("no version is removed") == 1
