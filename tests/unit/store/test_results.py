"""Results: each comes into being once, whatever happens on the way."""

import errno
import os

import numpy as np
import pytest

from mlip_autopipec.core.errors import DataError, QueueError
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.store.results import Results, check_result, make_result
from queue_tools import CREATED, make_record, make_task


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "results")


def test_first_wins(results):
    task = make_task(1)
    first = make_record(task, energy=-1.0)
    assert not results.exists(task.id)
    assert results.write_once(task.id, first)
    assert not results.write_once(task.id, make_record(task, energy=-2.0))
    assert results.read(task.id) == first
    assert results.path(task.id) == results.folder / task.id[:2] / f"{task.id}.json"
    assert list(results.ids()) == [task.id]
    assert not list(results.tmp.iterdir())


def test_ids_lists_results_only(results):
    assert list(results.ids()) == []
    tasks = [make_task(number) for number in range(20)]
    for task in tasks:
        results.write_once(task.id, make_record(task))
    (results.folder / tasks[0].id[:2] / "notes.json").write_text("{}")
    (results.folder / "README").write_text("hello")
    results.supersede(tasks[3].id)
    assert sorted(results.ids()) == sorted(t.id for t in tasks if t is not tasks[3])


def test_supersede_keeps_every_old_result(results):
    task = make_task(1)
    assert results.supersede(task.id) is None
    for energy in (-1.0, -2.0):
        results.write_once(task.id, make_record(task, energy=energy))
        results.supersede(task.id)
    assert not results.exists(task.id)
    assert len(list(results.superseded.iterdir())) == 2


def test_a_link_whose_reply_was_lost_is_mine(results, monkeypatch):
    task = make_task(1)
    link = os.link

    def lossy(source, target):
        link(source, target)
        raise OSError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", lossy)
    assert results.write_once(task.id, make_record(task))


def test_a_link_that_came_second_is_not(results, monkeypatch):
    task = make_task(1)
    link = os.link

    def overtaken(source, target):
        monkeypatch.setattr(os, "link", link)
        assert results.write_once(task.id, make_record(task, energy=-7.0))
        link(source, target)

    monkeypatch.setattr(os, "link", overtaken)
    assert not results.write_once(task.id, make_record(task, energy=-1.0))
    assert results.read(task.id)["energy"] == -7.0


def test_a_link_that_fails_is_told(results, monkeypatch):
    def broken(source, target):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", broken)
    with pytest.raises(OSError, match="Input/output"):
        results.write_once(make_task(1).id, make_record(make_task(1)))
    assert not results.exists(make_task(1).id)


def test_a_full_disk_is_transient(results, monkeypatch):
    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    task = make_task(1)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(QueueError, match="No space") as caught:
        results.write_once(task.id, make_record(task))
    assert caught.value.transient
    assert not results.exists(task.id)
    assert not list(results.tmp.iterdir())
    monkeypatch.undo()
    assert results.write_once(task.id, make_record(task))


def test_no_stress_is_allowed():
    task = make_task(1)
    record = make_result(task, Label(-1.0, np.zeros((2, 3)), None), "w", CREATED)
    assert record["stress"] is None
    assert check_result(record) == record


@pytest.mark.parametrize(
    "label",
    [
        Label(float("nan"), np.zeros((2, 3)), None),
        Label(-1.0, np.full((2, 3), np.inf), None),
        Label(-1.0, np.zeros((3, 3)), None),
        Label(-1.0, np.zeros((2, 3)), np.zeros(9)),
        Label(-1.0, np.zeros((2, 3)), None, {"settings": object()}),
        Label(-1.0, np.zeros((2, 3)), None, {"seconds": float("nan")}),
    ],
)
def test_labels_that_do_not_fit_are_refused(label):
    with pytest.raises(DataError):
        make_result(make_task(1), label, "w", CREATED)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"id": make_task(2).id},
        {"energy": None},
        {"energy": "1"},
        {"energy": True},
        {"forces": []},
        {"forces": [["a", "b", "c"]] * 2},
        {"forces": [[1e999, 0, 0]] * 2},
        {"stress": [0.0] * 5},
        {"info": None},
        {"worker": 3},
        {"finished": "now"},
        {"task": {}},
        {"more": 1},
    ],
)
def test_damaged_results_are_refused(results, change):
    record = {**make_record(make_task(1)), **change}
    with pytest.raises(DataError):
        check_result(record)
    with pytest.raises(DataError):
        results.write_once(make_task(1).id, record)


def test_a_result_under_a_wrong_name_is_refused(results):
    one, two = make_task(1), make_task(2)
    results.write_once(one.id, make_record(one))
    results.path(two.id).parent.mkdir(exist_ok=True)
    results.path(one.id).rename(results.path(two.id))
    with pytest.raises(DataError, match=one.id):
        results.read(two.id)
    with pytest.raises(DataError):
        results.write_once(two.id, make_record(one))
    with pytest.raises(FileNotFoundError):
        results.read(one.id)
