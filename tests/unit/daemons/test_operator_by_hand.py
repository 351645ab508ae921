"""An operator who has nothing but ls, mv, cat and `queue_layout.md`, on a running system (issue 3, Must show 6)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worker_parts import new_task

from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task

DOCUMENT = Path(__file__).resolve().parents[3] / "queue_layout.md"
EXAMPLE_ID = "0be4ee64733850c89e23"


def recipe(task_id: str, *words: str) -> str:
    """Return the recipe of the document that holds all of `words`, for this task."""
    block = DOCUMENT.read_text().split("## Recipes")[1].split("```")[1]
    (line,) = [line for line in block.splitlines() if all(word in line for word in words)]
    command = line.split("  #")[0]
    return command.replace(EXAMPLE_ID, task_id).replace(f"/{EXAMPLE_ID[:2]}/", f"/{task_id[:2]}/")


class Operator:
    """A shell in `queue/dft/` that knows three programs."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.programs = programs
        programs.mkdir()
        for name in ("ls", "mv", "cat"):
            (programs / name).symlink_to(str(shutil.which(name)))

    def __call__(self, command: str) -> str:
        environment = {"PATH": str(self.programs), "LC_ALL": "C"}
        words = ["/bin/sh", "-c", command]
        done = subprocess.run(words, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def sees(self, pattern: str) -> bool:
        return bool(self(f"ls {pattern} 2>/dev/null || :").strip())


def wait_until(condition: Callable[[], Any], what: str) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.create()
    run.config_file.write_text("")
    return run


@pytest.fixture
def worker(run: RunDirectory) -> Iterator[Callable[[], None]]:
    """Starts a dft-worker process."""
    processes = []

    def start() -> None:
        words = [sys.executable, "-c", "import worker_parts; worker_parts.main()", str(run.root), "dft-0"]
        processes.append(subprocess.Popen(words, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL))

    yield start
    for process in processes:
        process.terminate()
        assert process.wait(30) == 0


@pytest.mark.flow
def test_requeue_park_and_reprioritise_by_hand(run: RunDirectory, worker: Callable[[], None], tmp_path: Path) -> None:
    queue = TaskQueue(run.queue / "dft", Results(run.results), worker="publisher", attempts=run.attempts)
    fails = new_task("not-converged", gamma=2000.0)
    # A label takes a second.
    tasks: list[Task] = [new_task("slow", gamma=60.0 - number, atoms=3 + number) for number in range(6)]
    parked, last = new_task("slow", gamma=50.5, atoms=20), new_task("slow", gamma=1.0, atoms=21)
    for task in (fails, *tasks, parked, last):
        assert queue.publish(task)
    operator = Operator(queue.layout.root, tmp_path / "bin")
    assert operator.sees(f"pending/*/*-{parked.id}.json")
    # Park one of the middle before anybody works on it, with the recipe for a bucket made one for a task.
    operator(recipe(parked.id, "mv pending/*/*-", "00-first/").replace("pending/00-first/", "held/"))
    worker()
    wait_until(lambda: operator.sees("failed/*.json"), "nothing failed")
    assert "SCF stopped after 100 steps" in operator(recipe(fails.id, "cat failed/"))
    # The last becomes the next.
    waiting = {t.id for t in tasks if operator.sees(f"pending/*/*-{t.id}.json")}
    assert operator(recipe(last.id, "ls pending").split("|")[0])
    operator(recipe(last.id, "mv pending/*/*-", "00-first/"))
    wait_until(lambda: operator.sees(f"done/*/{last.id}.json"), "the one that was put first is not labelled")
    still = {task_id for task_id in waiting if operator.sees(f"pending/*/*-{task_id}.json")}
    assert len(waiting - still) <= 2  # the one in work, and one that was claimed just before
    assert len(still) >= 2
    # Try the failed one again; it fails again, with a fresh attempt.
    operator(recipe(fails.id, "mv failed/*.json pending/"))
    wait_until(lambda: len(failures(operator, fails.id)) == 2, "it was not tried again")
    wait_until(lambda: all(operator.sees(f"done/*/{t.id}.json") for t in tasks), "not all are labelled")
    # All that was not parked is done; what was parked is where it was put.
    assert operator.sees(f"held/*-{parked.id}.json")
    assert not queue.results.exists(parked.id)
    operator(recipe(parked.id, "mv held/"))
    wait_until(lambda: operator.sees(f"done/*/{parked.id}.json"), "what was let go is not labelled")
    assert json.loads(operator(f"cat ../../results/{parked.id[:2]}/{parked.id}.json"))["energy"] == 20.0
    wait_until(lambda: not operator.sees("running/*/*.json"), "something is still running")
    counts = {state: number for state, number in queue.counts().items() if number}
    assert counts == {"done": 8, "failed": 1}


def failures(operator: Operator, task_id: str) -> list[dict[str, Any]]:
    lines = operator(recipe(task_id, "cat ../../attempts/history")).splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "failed"]
