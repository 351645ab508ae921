"""`dft why`: ten lines that tell how every kind of task ended."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from click.testing import CliRunner

from mlip_autopipec.cli.dft import dft
from mlip_autopipec.core.errors import NotFoundError
from mlip_autopipec.core.files import write_json
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.monitor.story import LINES, story, tell
from mlip_autopipec.stages.curate import row_of_result
from mlip_autopipec.store.dataset import Dataset
from mlip_autopipec.store.queue import Claim, TaskQueue
from mlip_autopipec.store.refusals import add_refusals
from mlip_autopipec.store.results import Results, make_result
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task

NOW = "2026-01-01T00:00:00.000Z"
LABELLER = {"engine": "espresso"}


class Desk:
    """A run whose queue a worker works through by hand."""

    def __init__(self, root: Path) -> None:
        self.run = RunDirectory(root)
        self.run.create()
        self.run.config_file.write_text("")
        self.results = Results(self.run.results, fsync=False)
        self.queue = TaskQueue(
            self.run.queue / "dft", self.results, worker="dft-0", attempts=self.run.attempts, fsync=False
        )
        self.count = 0

    def publish(self) -> Task:
        self.count += 1
        atoms = Atoms("Al2", [[0, 0, 0], [0, 0, 2.5]], cell=[9, 9, 9 + self.count], pbc=True)
        origin = {"walker": "w00", "step": 200, "version": "v0003"}
        task = Task.new(atoms, [1, 0], LABELLER, priority=11.4, origin=origin, config_type="a", created=NOW)
        assert self.queue.publish(task)
        return task

    def claim(self) -> Claim:
        claim = self.queue.claim()
        assert claim is not None
        return claim

    def attempt(self, task: Task, name: str, *rungs: tuple[str, str], end: str = "converged") -> Path:
        folder = self.run.attempt(task.id) / name
        folder.mkdir(parents=True)
        steps = [{"rung": r, "end": e, "reason": "", "seconds": 2.5, "iterations": 7, "scf": {}} for r, e in rungs]
        write_json(folder / "rungs.json", {"rungs": steps, "end": end, "cores": 1})
        return folder

    def finish(self, claim: Claim, **info: Any) -> dict[str, Any]:
        label = Label(-3.0, np.zeros((2, 3)), np.zeros(6), {"labeller": "espresso", **info})
        record = make_result(claim.task, label, "dft-0", NOW)
        self.queue.complete(claim, record)
        return record

    def told(self, task: Task) -> list[str]:
        facts = story(self.run, task.id)
        json.dumps(facts)
        lines = tell(facts)
        assert 2 <= len(lines) <= LINES
        assert lines[0] == f"task {task.id}: {facts['state']}"
        assert lines[1] == "  asked     Al2, 1 of 2 atoms learned, gamma 11.4, walker w00, step 200, version v0003"
        return lines[2:]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_task_that_waits(desk: Desk) -> None:
    assert desk.told(desk.publish()) == ["  history   nobody has tried yet"]


def test_a_task_at_work(desk: Desk) -> None:
    task = desk.publish()
    desk.claim()
    assert story(desk.run, task.id)["state"] == "running"


def test_a_label_that_was_rescued(desk: Desk) -> None:
    task = desk.publish()
    claim = desk.claim()
    desk.attempt(task, "01-dft-0", ("as wanted", "oscillating"), ("smaller mixing", "converged"))
    desk.finish(claim, program="pw.x 6.7MaX", scf_iterations=12, seconds=5.0, cores=4, scf={"degauss_ry": 0.02})
    lines = desk.told(task)
    assert "  01-dft-0: as wanted: oscillating (7 iterations, 2.5 s) -> smaller mixing: converged" in lines[1]
    assert lines[2] == "  label     pw.x 6.7MaX, 12 iterations, smearing 0.02 Ry, 5 s on 4 core(s), dft-0"


def test_a_label_of_another_smearing_and_its_flags(desk: Desk) -> None:
    task = desk.publish()
    flags = {"changed_smearing": "made with a smearing of 0.03 Ry"}
    record = desk.finish(desk.claim(), flags=flags, moments=[1.5, 1.5])
    row = row_of_result(record, LABELLER, force_limit=100)
    Dataset(desk.run.dataset).ingest([replace(row, flags={**row.flags, "moment_jump": "moment of Al 1.50"})])
    add_refusals(desk.run, {task.id: "left out: no"})
    lines = desk.told(task)
    assert "magnetization 3 per cell" in lines[1]
    assert lines[2:] == [
        "  flagged   changed_smearing: made with a smearing of 0.03 Ry; moment_jump: moment of Al 1.50",
        "  not used  left out: no",
    ]


def test_a_reused_label_names_its_source(desk: Desk) -> None:
    task = desk.publish()
    desk.finish(desk.claim(), reused_from="a" * 20)
    assert f"that of the like structure {'a' * 20} (autopipe dft why {'a' * 20})" in desk.told(task)[1]


def test_an_scf_that_failed_on_every_rung(desk: Desk) -> None:
    task = desk.publish()
    rungs = [("as wanted", "not converged"), *((f"rung {n}", "not converged") for n in range(8))]
    desk.attempt(task, "01-dft-0", *rungs, end="every rung for 'not converged' was tried")
    desk.queue.fail(desk.claim(), "NotConverged: SCF did not converge", transient=False)
    lines = desk.told(task)
    assert lines[0].startswith("  history   last: failed at ")
    assert "as wanted: not converged (7 iterations, 2.5 s) -> 6 more -> rung 6: " in lines[1]
    assert lines[1].endswith("every rung for 'not converged' was tried")
    assert lines[2:] == [
        "  reason    NotConverged: SCF did not converge",
        f"  next      autopipe queue retry {task.id}",
    ]


def test_a_label_that_a_window_refused(desk: Desk) -> None:
    task = desk.publish()
    folder = desk.attempt(task, "01-dft-0", ("as wanted", "converged"))
    (folder / "refused.json").write_text("{}")
    desk.queue.fail(desk.claim(), "DataError: a force of 120 eV/A is above training.force_limit", transient=False)
    lines = desk.told(task)
    assert lines[1].endswith("converged (7 iterations, 2.5 s); refused by a window")
    assert "force_limit" in lines[2]


def test_a_task_that_is_put_off_and_lost_again_and_again(desk: Desk) -> None:
    task = desk.publish()
    for number in range(6):
        claim = desk.claim()
        desk.attempt(task, f"{number:02d}-dft-0", ("as wanted", "killed"), end="no rung helps: killed")
        if number % 2:
            desk.queue.fail(claim, "Crashed: pw.x was killed by signal 9", transient=True)
            found = desk.queue.find(task.id)
            assert found is not None
            target = desk.queue.layout.pending / "00-first" / found.name
            target.parent.mkdir(exist_ok=True)
            found.rename(target)
        else:
            desk.queue.return_tasks_of("dft-0")
    lines = desk.told(task)
    assert lines[0].startswith("  history   put off 3 x; lost with its worker 3 x; last: retry at ")
    assert sum("killed (7 iterations" in line for line in lines) == 3
    assert "(and 3 earlier: --json)" in lines[1]


@pytest.mark.parametrize(
    ("change", "state", "advice"), [("cancel", "cancelled", "requeue"), ("hold", "held", "release")]
)
def test_what_a_person_did(desk: Desk, change: str, state: str, advice: str) -> None:
    task = desk.publish()
    getattr(desk.queue, change)(task.id)
    lines = desk.told(task)
    assert story(desk.run, task.id)["state"] == state
    assert f"autopipe queue {advice} {task.id}" in lines[-1]


def test_a_result_that_cannot_be_read(desk: Desk) -> None:
    task = desk.publish()
    desk.finish(desk.claim())
    desk.results.path(task.id).write_text("{")
    assert desk.told(task)[-1].startswith("  result    cannot be read: ")


def test_the_command(desk: Desk) -> None:
    task = desk.publish()

    def why(*words: str) -> str:
        return CliRunner().invoke(dft, ["why", *words, "-C", str(desk.run.root)], catch_exceptions=False).output

    assert why(task.id[:12]).splitlines()[0] == f"task {task.id}: pending"
    assert json.loads(why(task.id, "--json"))["state"] == "pending"
    desk.attempt(task, "01-dft-0", ("as wanted", "killed"))
    found = desk.queue.find(task.id)
    assert found is not None
    found.unlink()
    assert "forgotten: its file was removed" in why(task.id[:12])
    with pytest.raises(NotFoundError, match="x: no such task"):
        why("x")
