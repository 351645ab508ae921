"""Task files: what is written comes back, and nothing that is not a task comes in."""

import copy
import json
import os

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.store.document import dump_document
from mlip_autopipec.store.task import Task
from queue_tools import CREATED, make_task


def written(folder, data, name=None):
    path = folder / (name or f"{data['id']}.json")
    path.write_text(json.dumps(data))
    return path


def changed(**changes):
    return {**copy.deepcopy(make_task(1).to_dict()), **changes}


def with_structure(**changes):
    data = make_task(1).to_dict()
    return {**data, "structure": {**data["structure"], **changes}}


def test_round_trip(tmp_path):
    task = make_task(1)
    path = tmp_path / f"1234-g3-{task.id}.json"
    path.write_text(dump_document(task.to_dict()))
    assert Task.read(path) == task
    assert task.atoms() == make_task(1).atoms()
    assert task.atoms() is not task.atoms()


def test_numpy_and_tuples_become_plain(tmp_path):
    atoms = Atoms("Al", cell=[4, 4, 4], pbc=(True, True, False))
    task = Task.new(
        atoms,
        np.array([1]),
        {"engine": "teacher", "kpts": (1, 2, 3)},
        priority=np.float64(2.5),
        origin={"step": 3},
        config_type="bootstrap",
        created=CREATED,
    )
    path = tmp_path / f"{task.id}.json"
    path.write_text(dump_document(task.to_dict()))
    assert Task.read(path) == task
    assert task.labeller["kpts"] == [1, 2, 3]


def test_the_id_tells_structure_mask_and_labeller_apart():
    one = make_task(1)
    other_labeller = Task.new(
        one.atoms(), [1, 0], {"engine": "espresso"}, priority=3, origin={}, config_type="x", created=CREATED
    )
    other_mask = Task.new(one.atoms(), [1, 1], one.labeller, priority=3, origin={}, config_type="x", created=CREATED)
    other_reason = Task.new(one.atoms(), [1, 0], one.labeller, priority=9, origin={}, config_type="y", created=CREATED)
    assert len({one.id, other_labeller.id, other_mask.id, make_task(2).id}) == 4
    assert other_reason.id == one.id


def test_infinite_gamma_is_the_largest_priority():
    assert make_task(1, float("inf")).priority == 1e9
    with pytest.raises(DataError, match="priority"):
        make_task(1, float("nan"))
    with pytest.raises(DataError, match="priority"):
        make_task(1, -1.0)


BAD = {
    "schema of the future": changed(schema=2),
    "schema true": changed(schema=True),
    "no schema": {k: v for k, v in make_task(1).to_dict().items() if k != "schema"},
    "missing key": {k: v for k, v in make_task(1).to_dict().items() if k != "origin"},
    "unknown key": changed(command="rm -rf"),
    "id with path": changed(id="../../../../etc/passw"),
    "id in capitals": changed(id=make_task(1).id.upper()),
    "id of another": changed(id=make_task(2).id),
    "id a number": changed(id=12345678901234567890),
    "unknown kind": changed(kind="shell"),
    "mask too short": changed(force_mask=[1]),
    "mask of twos": changed(force_mask=[1, 2]),
    "mask of booleans": changed(force_mask=[True, False]),
    "mask of floats": changed(force_mask=[1.0, 0.0]),
    "mask no list": changed(force_mask="10"),
    "priority text": changed(priority="3"),
    "priority true": changed(priority=True),
    "priority negative": changed(priority=-0.5),
    "priority huge": changed(priority=1e300),
    "created no time": changed(created="yesterday"),
    "created a number": changed(created=5),
    "config_type no word": changed(config_type="a b\n"),
    "origin a list": changed(origin=[]),
    "labeller without engine": changed(labeller={"model": "emt"}),
    "labeller engine a list": changed(labeller={"engine": ["teacher"]}),
    "labeller changed": changed(labeller={"engine": "teacher", "model": "lj"}),
    "structure none": changed(structure=None),
    "positions changed": with_structure(positions=[[0, 0, 0], [0, 0, 2.5]]),
    "positions of one": with_structure(positions=[[0, 0, 0]]),
    "positions ragged": with_structure(positions=[[0, 0, 0], [0, 0]]),
    "positions too large for a float": with_structure(positions=[[0, 0, 0], [0, 0, 10**400]]),
    "unknown element": with_structure(species=["Al", "Xx"]),
    "species numbers": with_structure(species=[13, 13]),
    "no atoms": with_structure(species=[], positions=[]),
    "cell flat": with_structure(cell=[[8, 0, 0], [0, 8, 0], [8, 8, 0]]),
    "pbc of numbers": with_structure(pbc=[1, 1, 1]),
    "structure with more": with_structure(command="ls"),
}


@pytest.mark.parametrize("name", BAD)
def test_nonsense_is_refused(tmp_path, name):
    with pytest.raises(DataError):
        Task.read(written(tmp_path, BAD[name], f"{make_task(1).id}.json"))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"schema": NaN}',
        b'{"schema": 1, "priority": Infinity}',
        b"[" * 100_000,
        dump_document(make_task(1).to_dict()).encode()[:-40],
    ],
)
def test_half_and_broken_files_are_refused(tmp_path, text):
    path = tmp_path / f"{make_task(1).id}.json"
    path.write_bytes(text)
    with pytest.raises(DataError):
        Task.read(path)


def test_not_finite_numbers_inside_are_refused(tmp_path):
    text = json.dumps(make_task(1).to_dict()).replace('"step": 17', '"step": 1e999')
    path = tmp_path / f"{make_task(1).id}.json"
    path.write_text(text)
    with pytest.raises(DataError):
        Task.read(path)


def test_the_name_has_to_be_the_id(tmp_path):
    with pytest.raises(DataError, match="rename it"):
        Task.read(written(tmp_path, make_task(1).to_dict(), f"{make_task(2).id}.json"))


def test_only_regular_files_of_reasonable_size_are_read(tmp_path, monkeypatch):
    data = make_task(1).to_dict()
    real = written(tmp_path, data)
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / real.name
    link.symlink_to(real)
    with pytest.raises(DataError, match="symbolic link"):
        Task.read(link)
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(DataError, match="regular"):
        Task.read(link)
    link.unlink()
    link.mkdir()
    with pytest.raises(DataError, match="regular"):
        Task.read(link)
    with pytest.raises(FileNotFoundError):
        Task.read(tmp_path / "none.json")
    with real.open("ab") as handle:
        handle.truncate(65 * 1024 * 1024)
    with pytest.raises(DataError, match="bytes"):
        Task.read(real)


def test_a_person_can_read_it():
    text = dump_document(make_task(1).to_dict())
    assert '  "force_mask": [1, 0],\n' in text
    assert "      [0.0, 0.0, 0.0],\n" in text
    assert text.index('"id"') < text.index('"priority"') < text.index('"structure"')
    assert len(text.splitlines()) < 40


def test_what_json_cannot_say_is_refused():
    with pytest.raises(DataError):
        dump_document({"a": float("nan")})
    with pytest.raises(DataError):
        dump_document({"a": {"b": object()}})
    with pytest.raises(DataError):
        Task.new(
            make_task(1).atoms(), [1, 0], {"engine": object()}, priority=1, origin={}, config_type="x", created=CREATED
        )
