"""What `status` says needs a person."""

from __future__ import annotations

from typing import Any

import pytest

from mlip_autopipec.monitor.problems import problems


def daemon(name: str, state: str = "idle", *, alive: bool = True, **detail: Any) -> dict[str, Any]:
    return {"name": name, "state": state, "alive": alive, "pid": 1, "host": "here", "detail": detail}


def facts(*daemons: dict[str, Any], activity: str = "running", phase: str = "otf", **queue: int) -> dict[str, Any]:
    return {
        "workflow": {"phase": phase}, "activity": activity, "daemons": list(daemons), "walkers": [], "queue": queue,
    }  # fmt: skip


@pytest.mark.parametrize(("state", "lines"), [("failing", 1), ("training", 0)])
def test_a_failing_trainer_is_a_problem_and_says_why(state: str, lines: int) -> None:
    found = problems(facts(daemon("trainer-worker", state, error="gate: differ")))
    assert len(found) == lines
    assert all("gate: differ" in line for line in found)


def test_a_walker_that_gave_up_can_be_revived() -> None:
    scene = facts()
    scene["walkers"] = [
        {"name": "w00", "state": "stuck", "reason": "3 failed healings"},
        {"name": "w01", "state": "done", "reason": "all steps made"},
    ]
    (line,) = problems(scene)
    assert "3 failed healings: autopipe otf revive w00" in line


def test_tasks_that_nobody_labels_are_a_problem() -> None:
    supervisor = daemon("supervisor", "otf", children={})
    (line,) = problems(facts(supervisor, pending=3))
    assert "3 task(s) pending, and no dft-worker runs: autopipe worker dft" in line
    assert problems(facts(supervisor, done=3)) == []
    assert problems(facts(supervisor, daemon("dft-node7-12", labelled=0), pending=3)) == []
    assert problems(facts(daemon("supervisor", "otf", children={"dft-worker-0": {}}), pending=3)) == []
    assert problems(facts(activity="stopped", pending=3)) == []


def test_trajectories_that_nobody_makes_are_a_problem() -> None:
    supervisor, worker = daemon("supervisor", "otf", children={}), daemon("explorer-worker-0", "exploring")
    scene = {**facts(supervisor), "trajectories": {"pending": 2, "failed": 1, "done": 4}}
    waits, failed = problems(scene)
    assert "2 pending, 1 failed, and no explorer-worker runs: autopipe worker explore" in waits
    assert "1 trajectories failed: autopipe explore status" in failed
    assert problems({**facts(supervisor, worker), "trajectories": {"pending": 2}}) == []
    (line,) = problems(facts(daemon("explorer-worker-0", "failing", error="nothing was picked: no frame")))
    assert "explorer-worker-0 is failing: nothing was picked" in line
    (line,) = problems(facts(daemon("explorer-worker-0", alive=False)))
    assert line.endswith(": autopipe otf start")


def test_who_is_gone_is_started_again_by_whoever_started_it() -> None:
    gone = daemon("trainer-worker", alive=False)
    (line,) = problems(facts(gone))
    assert line.endswith(": autopipe otf start")
    assert problems(facts(gone, phase="done")) == []
    supervised = daemon("supervisor", "otf", children={"trainer-worker": {"restarts": 1, "last_exit": "x"}})
    assert problems(facts(gone, supervised)) == []
    hopeless = daemon("supervisor", "otf", children={"trainer-worker": {"restarts": 7, "last_exit": "no table"}})
    (line,) = problems(facts(gone, hopeless))
    assert "ended unasked 7 times (no table): see logs/trainer-worker.log" in line


def test_a_worker_by_hand_is_not_started_again_by_a_start_of_the_run() -> None:
    gone = daemon("dft-node7-12", alive=False)
    (line,) = problems(facts(gone, running=1))
    assert "autopipe worker dft" in line
    assert "otf start" not in line
    assert problems(facts(gone, done=1)) == []
    (line,) = problems(facts(daemon("dft-node7-12", "failed", alive=False)))
    assert "logs/" not in line


def test_walkers_without_room_on_the_disk_are_a_problem() -> None:
    scene = facts()
    told = "room on the disk of /runs: 0.4 GB free of retention.min_free_gb 1; goes on by itself when there is more"
    walker = {"name": "w00", "state": "running", "reason": "", "alive": True, "waiting_for": told}
    scene["walkers"] = [walker, {**walker, "name": "w01"}, {**walker, "name": "w02", "waiting_for": "label of task 1"}]
    (line,) = problems(scene)
    assert line.startswith("w00, w01 paused, while labels go on: room on the disk of /runs: 0.4 GB free")
    scene["walkers"] = [{**walker, "alive": False}]  # the run was stopped meanwhile
    assert problems(scene) == []


def test_a_killed_production_is_gone_on_with() -> None:
    (line,) = problems(facts(daemon("produce-v0003", "producing", alive=False), pending=1, phase="done", activity=""))
    assert line.startswith("produce-v0003 is gone without a goodbye")
    assert line.endswith("autopipe otf produce --version v0003 goes on")
