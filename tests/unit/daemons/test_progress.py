"""Where the run stands, judged by files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from worker_parts import new_task

from mlip_autopipec.core.files import write_json
from mlip_autopipec.daemons.progress import Progress
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.state import WorkflowState
from mlip_autopipec.store.walkerstate import WalkerState, write_state


class Scene:
    """A run whose files a test sets; both daemons beat before every look."""

    def __init__(self, root: Path) -> None:
        self.run = RunDirectory(root)
        self.run.create()
        self.queue = TaskQueue(self.run.queue / "dft", Results(self.run.results), worker="t")
        self.beats = {"trainer-worker": 10, "otf-runner": 10}
        self.uningested, self.runner_state, self.process = 0, "finished", "p1"
        self.restart()

    def restart(self) -> None:
        self.progress = Progress(self.run, self.queue, Registry(self.run.potentials), {"w00", "w01"})

    def version(self, number: int) -> None:
        name = f"v{number:04d}"
        (self.run.potentials / name).mkdir()
        write_json(self.run.potentials / name / "manifest.json", {"task_ids": []})
        write_json(self.run.potentials / "current.json", {"version": name, "sha256": "", "pinned": False})

    def walkers(self, *states: Any) -> None:
        for number, state in enumerate(states):
            folder = self.run.walker(f"w{number:02d}")
            folder.mkdir(exist_ok=True)
            write_state(folder, WalkerState(folder.name, state=state))

    def beat(self, *names: str) -> None:
        for name in names or self.beats:
            self.beats[name] += 1
            state = self.runner_state if name == "otf-runner" else "idle"
            detail = {"uningested": self.uningested}
            record = {"counter": self.beats[name], "state": state, "detail": detail, "process_start": self.process}
            record |= {"name": name, "pid": 1, "host": "h", "updated": ""}
            write_json(self.run.heartbeats / f"{name}.json", record)

    def looks(self, count: int = 4) -> str:
        phase = ""
        for _ in range(count):
            self.beat()
            phase = self.progress.update()
        assert WorkflowState.read(self.run.state) == self.progress.state
        return phase


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_bootstrap_until_there_is_a_version(scene: Scene) -> None:
    scene.walkers("done", "done")
    assert scene.looks() == "bootstrap"
    scene.version(1)
    scene.walkers("running", "done")
    assert scene.looks() == "otf"
    scene.version(2)
    scene.looks(1)
    assert scene.progress.state == WorkflowState(2, "otf", 0)


@pytest.mark.parametrize(
    ("states", "phase"), [(("done", "done"), "done"), (("stuck", "done"), "stuck"), (("failed", "stuck"), "stuck")]
)
def test_over_when_all_walkers_ended_and_all_is_ingested(scene: Scene, states: tuple[str, str], phase: str) -> None:
    scene.version(1)
    scene.walkers(*states)
    assert scene.looks() == phase


def test_not_done_while_something_is_open(scene: Scene) -> None:
    scene.version(1)
    scene.walkers("done")  # w01 never ran
    assert scene.looks() == "otf"
    scene.walkers("done", "halted")
    assert scene.looks() == "otf"
    scene.walkers("done", "done")
    scene.uningested = 1
    assert scene.looks() == "otf"
    scene.uningested = 0
    scene.queue.publish(new_task())
    assert scene.looks() == "otf"
    assert scene.progress.state.pending_tasks == 1
    scene.queue.cancel(new_task().id)
    scene.queue.sweep()
    scene.runner_state = "running"
    assert scene.looks() == "otf"


def test_what_the_trainer_said_before_all_was_at_rest_does_not_count(scene: Scene) -> None:
    scene.version(1)
    scene.walkers("done", "done")
    for _ in range(5):  # the trainer has said "nothing to ingest" once, and is busy now
        scene.beat("otf-runner")
        scene.beat() if scene.beats["trainer-worker"] == 10 else None
        assert scene.progress.update() == "otf"
    scene.process = "p2"  # a new trainer: its small counter says nothing about the old one's
    scene.beat("trainer-worker")
    assert scene.progress.update() == "otf"
    assert scene.looks(3) == "done"


def test_an_old_goodbye_of_the_runner_does_not_count(scene: Scene) -> None:
    """At a new start the walkers' files still say done, although more steps may be wanted now."""
    scene.version(1)
    scene.walkers("done", "done")
    scene.beat()
    for _ in range(5):
        scene.beat("trainer-worker")
        assert scene.progress.update() == "otf"


def test_finished_tasks_cost_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look is made every second, and there may be a hundred thousand of them."""
    monkeypatch.delattr(TaskQueue, "counts")
    scene.queue.publish(new_task())
    scene.looks(1)
    assert scene.progress.state.pending_tasks == 1


def test_a_damaged_state_file_is_made_anew(scene: Scene) -> None:
    scene.run.state.write_text('{"phase": "elsewhere"}')
    scene.restart()
    scene.version(1)
    assert scene.looks(1) == "otf"
