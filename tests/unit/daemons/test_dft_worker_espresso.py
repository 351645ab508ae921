"""A dft-worker with the real pw.x in mid-SCF: killed, cancelled, drained; what is left, and what the next one does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from ase.build import bulk

from mlip_autopipec.engines.espresso.settings import EspressoSettings
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task

LEASE_S = 2.0
CREATED = "2026-01-01T00:00:00.000Z"
WORKER = "from mlip_autopipec.cli.main import main; main()"
SECONDS = {"ecutwfc_ry": 15, "kspacing": 0.5, "conv_thr_ry": 1e-10}
ENDLESS = {"ecutwfc_ry": 40, "kspacing": 0.3}


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 200) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(what)
        time.sleep(0.02)
    return value


class Place:
    """A run directory with one task, and the processes that work on it."""

    def __init__(self, root: Path, settings: dict[str, Any], scratch: Path | None) -> None:
        self.run = RunDirectory(root)
        self.run.create()
        atoms = bulk("Al", cubic=True)
        atoms.rattle(0.1, seed=1)
        atoms.write(root / "al.extxyz")
        self.scratch = scratch
        config = {
            "start": {"structure": "al.extxyz", "dataset": "al.extxyz"},
            "labeller": {"engine": "espresso", "elements": ["Al"]},
            "queue": {"lease_s": LEASE_S, "retry_delay_s": 0.2},
            "supervisor": {"label_grace_s": 0.5},
            "node": {"espresso": {"scratch": str(scratch)} if scratch else {}},
        }
        self.run.config_file.write_text(yaml.safe_dump(config))
        labeller = EspressoSettings(pseudopotentials={"Al": "Al.pz-vbc.UPF"}, **settings).model_dump(mode="json")
        origin = {"walker": "w00", "step": 1, "version": "v0001"}
        self.task = Task.new(
            atoms,
            [1] * 4,
            labeller,
            priority=2.0,
            origin=origin,
            config_type="test",
            created=CREATED,
        )
        self.results = Results(self.run.results)
        self.queue = TaskQueue(
            self.run.queue / "dft", self.results, worker="test", attempts=self.run.attempts, lease_s=LEASE_S
        )
        self.queue.publish(self.task)

    @contextlib.contextmanager
    def worker(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        words = [sys.executable, "-c", WORKER, "worker", "dft", "-C", str(self.run.root), "--name", name]
        process = subprocess.Popen(words, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)

    def attempts(self) -> list[Path]:
        return sorted(path for path in self.run.attempt(self.task.id).glob("[0-9][0-9]*-*") if path.is_dir())

    def pw_x(self, process: subprocess.Popen[bytes], iteration: int = 2) -> psutil.Process:
        """Wait until the newest attempt's pw.x is in its SCF; return it."""

        def in_mid_scf() -> psutil.Process | None:
            output = self.attempts()[-1] / "espresso.pwo" if self.attempts() else None
            if output is None or not output.exists() or f"iteration # {iteration:2d}" not in output.read_text():
                return None
            with contextlib.suppress(psutil.Error):
                for member in psutil.Process(process.pid).children(recursive=True):
                    if member.name() == "pw.x":
                        return member
            return None

        found = wait_for(in_mid_scf, "no pw.x came so far")
        assert isinstance(found, psutil.Process)
        return found

    def leftovers(self) -> list[Path]:
        below = list(self.scratch.iterdir()) if self.scratch and self.scratch.exists() else []
        return [*below, *self.run.attempts.glob("*/*/scratch"), *self.run.attempts.glob("*/*/density")]

    def rungs(self, number: int) -> list[tuple[str, str]]:
        story = json.loads((self.attempts()[number] / "rungs.json").read_text())
        return [(rung["rung"], rung["end"]) for rung in story["rungs"]]

    def events(self, name: str) -> int:
        files = self.run.events.glob("*.jsonl")
        return sum(json.loads(line)["event"] == name for file in files for line in file.read_text().splitlines())


@pytest.mark.parametrize("where", ["node", "beside"])
def test_a_worker_killed_in_mid_scf(pw_x: str, tmp_path: Path, where: str) -> None:
    place = Place(tmp_path / "run", SECONDS, tmp_path / "fast" if where == "node" else None)
    with place.worker("first") as worker:
        program = place.pw_x(worker)
        worker.kill()
        wait_for(lambda: not _lives(program), "pw.x outlives its worker", 10)
        worker.wait()
    assert len(place.leftovers()) == 1  # nobody was left who could remove it
    assert place.queue.state(place.task.id) == "running"

    with place.worker("second"):
        wait_for(lambda: place.queue.state(place.task.id) == "done", "no label")
        # A killed pw.x leaves no density, so the next worker starts anew.
        assert place.rungs(1) == [("as wanted", "converged")]
    first, second = place.attempts()
    assert (first.name, second.name.split("-")[1]) == ("01-first", "second")
    record = place.results.read(place.task.id)
    assert record["worker"] == "second"
    assert record["energy"] == pytest.approx(-225.6, abs=2.0)
    assert place.events("label_done") == 1
    assert place.events("label_failed") == 0
    assert place.leftovers() == []


def test_a_child_killed_in_mid_scf_costs_one_attempt(pw_x: str, tmp_path: Path) -> None:
    place = Place(tmp_path / "run", SECONDS, None)
    with place.worker("only") as worker:
        program = place.pw_x(worker)
        program.parent().kill()
        wait_for(lambda: not _lives(program), "pw.x outlives the child", 10)
        wait_for(lambda: place.queue.state(place.task.id) == "done", "no label")
    assert [path.name for path in place.attempts()] == ["01-only", "02-only"]
    assert place.rungs(1) == [("as wanted", "converged")]
    assert (place.events("label_failed"), place.events("label_done")) == (1, 1)
    assert place.leftovers() == []


@pytest.mark.parametrize("where", ["node", "beside"])
@pytest.mark.parametrize("how", ["cancelled", "drained"])
def test_an_scf_that_is_ended_from_outside_leaves_nothing(pw_x: str, tmp_path: Path, where: str, how: str) -> None:
    place = Place(tmp_path / "run", ENDLESS, tmp_path / "fast" if where == "node" else None)
    with place.worker("only") as worker:
        program = place.pw_x(worker, iteration=1)
        assert len(place.leftovers()) == 1
        if how == "cancelled":
            place.queue.cancel(place.task.id)
            wait_for(lambda: place.queue.state(place.task.id) == "cancelled", "not cancelled")
        else:
            worker.send_signal(signal.SIGTERM)
            wait_for(lambda: place.queue.state(place.task.id) == "pending", "not given back")
        wait_for(lambda: not _lives(program), "pw.x outlives its label", 10)
        wait_for(lambda: place.leftovers() == [], "scratch is left", 5)
    assert not place.results.exists(place.task.id)


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False
