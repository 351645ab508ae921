"""Files that an earlier version wrote stay readable. These examples are frozen: never make them anew."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.store import results as results_module
from mlip_autopipec.store import task as task_module
from mlip_autopipec.store.document import dump_document
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.schema import RESULT_STEPS, TASK_STEPS, NewerSchema, upgraded
from mlip_autopipec.store.task import Task
from queue_tools import LEASE_S, make_task, open_queue

HERE = Path(__file__).parent
FROZEN = {
    "task-v1/60b9f12e0b2602f10f57.json": "acda62a5861f6784",
    "result-v1/60b9f12e0b2602f10f57.json": "cdbbcffbc1623589",
}


@pytest.mark.parametrize("path", sorted(HERE.glob("task-v*/*.json")), ids=lambda p: p.parent.name)
def test_tasks(path):
    data = json.loads(path.read_text())
    task = Task.read(path)
    assert task.to_dict() == data
    assert dump_document(task.to_dict()) == path.read_text()
    atoms = task.atoms()
    assert atoms.get_chemical_symbols() == ["Al", "Al", "Al", "Cu"]
    assert atoms.pbc.tolist() == [True, True, False]
    assert task.force_mask == [1, 1, 0, 0]
    assert task.priority == 17.25
    assert task.origin == {"walker": "w03", "step": 12345, "version": "v0007"}


@pytest.mark.parametrize("path", sorted(HERE.glob("result-v*/*.json")), ids=lambda p: p.parent.name)
def test_results(path, tmp_path):
    results = Results(tmp_path)
    target = results.path(path.stem)
    target.parent.mkdir()
    shutil.copy(path, target)
    record = results.read(path.stem)
    assert record == json.loads(path.read_text())
    assert record["energy"] == -1234.56789
    assert record["stress"][5] == -2.5e-4
    assert record["worker"] == "dft-worker-0"


def test_nobody_has_touched_the_examples():
    sums = {
        str(path.relative_to(HERE)): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for pattern in ("task-v*/*.json", "result-v*/*.json")
        for path in HERE.glob(pattern)
    }
    assert sums == FROZEN


def test_every_version_has_its_step_and_its_frozen_example():
    for steps, module, kind in ((TASK_STEPS, task_module, "task"), (RESULT_STEPS, results_module, "result")):
        assert sorted(steps) == list(range(1, module.SCHEMA))
        assert {path.name for path in HERE.glob(f"{kind}-v*")} == {f"{kind}-v{n}" for n in range(1, module.SCHEMA + 1)}


def test_steps_are_taken_one_by_one():
    steps = {1: lambda d: {"a": d["a"] + 1}, 2: lambda d: {"b": d["a"] * 10}}
    old = {"schema": 1, "a": 1}
    assert upgraded("task", old, 3, steps) == {"schema": 3, "b": 20}
    assert upgraded("task", {"schema": 2, "a": 1}, 3, steps) == {"schema": 3, "b": 10}
    assert upgraded("task", {"schema": 3, "b": 7}, 3, steps) == {"schema": 3, "b": 7}
    assert old == {"schema": 1, "a": 1}


@pytest.mark.parametrize("version", [0, -1, True, 1.0, "1", None, [1]])
def test_versions_that_never_were(version):
    with pytest.raises(DataError, match="schema") as caught:
        upgraded("task", {"schema": version}, 1, {})
    assert not isinstance(caught.value, NewerSchema)


def test_a_task_of_the_present_version_is_read_by_the_next_one(monkeypatch):
    """The rehearsal of a change: version 2 has a new key in `origin`."""
    path = next(HERE.glob("task-v1/*.json"))
    before = Task.read(path)
    monkeypatch.setattr(task_module, "SCHEMA", 2)
    monkeypatch.setitem(TASK_STEPS, 1, lambda d: {**d, "origin": {**d["origin"], "run": "unknown"}})
    task = Task.read(path)
    assert (task.schema, task.origin["run"], task.id) == (2, "unknown", before.id)


def test_a_task_of_a_newer_version_waits_for_a_newer_worker(tmp_path):
    queue = open_queue(tmp_path, "w1")
    task = make_task(1)
    queue.publish(task)
    path = queue.find(task.id)
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 2'))
    for _ in range(6):
        assert queue.claim() is None
        queue.sweep()
        queue._claims._unsettled._clock.advance(LEASE_S)
    assert queue.state(task.id) == "pending"
    assert queue.counts()["corrupt"] == 0
