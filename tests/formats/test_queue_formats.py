"""Files that an earlier version wrote stay readable. These examples are frozen: never make them anew."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from mlip_autopipec.store.document import dump_document
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.task import Task

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
