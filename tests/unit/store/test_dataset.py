"""The dataset: one row per task id, all of a label comes back, nothing twice."""

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import ase.db
import numpy as np
import pytest
from ase.build import bulk

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.store.dataset import Dataset, DatasetRow


def make_row(task_id="12e45678901234567890", seed=0, **changes):
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=seed)
    atoms.pbc = (True, True, False)
    rng = np.random.default_rng(seed)
    row = DatasetRow(
        task_id, atoms, -13.5, rng.normal(size=(4, 3)), rng.normal(size=6), (1, 1, 0, 1), "active_learning", 7.25,
        {"walker": "w00", "step": 120, "version": "v0003"},
    )  # fmt: skip
    return replace(row, **changes)


def test_everything_comes_back(tmp_path):
    dataset = Dataset(tmp_path / "dataset.db")
    row = make_row()
    assert dataset.ingested() == set()
    assert dataset.ingest([row]) == [row.task_id]
    (again,) = Dataset(tmp_path / "dataset.db").rows()
    np.testing.assert_array_equal(again.atoms.positions, row.atoms.positions)
    np.testing.assert_array_equal(again.atoms.cell, row.atoms.cell)
    np.testing.assert_array_equal(again.atoms.pbc, row.atoms.pbc)
    np.testing.assert_array_equal(again.forces, row.forces)
    np.testing.assert_array_equal(again.stress, row.stress)
    for name in ("task_id", "energy", "force_mask", "config_type", "uncertainty_gamma", "origin"):
        assert getattr(again, name) == getattr(row, name)
    assert again.atoms.calc is None
    assert not again.whole
    assert again.learned.tolist() == [True, True, False, True]


def test_ingest_is_idempotent(tmp_path):
    dataset = Dataset(tmp_path / "dataset.db")
    rows = [make_row(f"{i:020x}", seed=i, stress=None) for i in range(5)]
    assert len(dataset.ingest(rows[:3])) == 3
    assert dataset.ingest(rows + rows) == [r.task_id for r in rows[3:]]
    assert dataset.ingest(rows) == []
    assert dataset.count() == 5
    assert dataset.ingested() == {r.task_id for r in rows}
    assert [r.task_id for r in dataset.rows()] == [r.task_id for r in rows]


def test_people_can_search_it(tmp_path):
    Dataset(tmp_path / "dataset.db").ingest([make_row(), make_row("0" * 20, config_type="300", origin={"source": "x"})])
    found = list(ase.db.connect(str(tmp_path / "dataset.db")).select("uncertainty_gamma>5,walker=w00,step=120"))
    assert [row.config_type for row in found] == ["active_learning"]
    assert {row.config_type for row in Dataset(tmp_path / "dataset.db").rows()} == {"active_learning", "300"}


@pytest.mark.parametrize(
    "changes", [{"energy": np.nan}, {"forces": np.zeros((3, 3))}, {"force_mask": (1,)}, {"stress": np.full(6, np.inf)}]
)
def test_a_bad_label_is_refused_and_nothing_is_added(tmp_path, changes):
    dataset = Dataset(tmp_path / "dataset.db")
    with pytest.raises(DataError, match="12e45678901234567890"):
        dataset.ingest([make_row("0" * 20), make_row(**changes)])
    assert dataset.ingested() == set()


def test_rollback_journal(tmp_path):
    Dataset(tmp_path / "dataset.db").ingest([make_row()])
    connection = sqlite3.connect(tmp_path / "dataset.db")
    assert connection.execute("pragma journal_mode").fetchone() == ("delete",)
    connection.close()


def _ingest_for_ever(path):
    dataset = Dataset(path)
    while True:
        first = dataset.count()
        dataset.ingest([make_row(f"{i:020x}", seed=i) for i in range(first, first + 3)])


def test_writers_killed_at_random_moments_leave_whole_transactions(tmp_path):
    path = tmp_path / "dataset.db"
    random.seed(5)
    context = multiprocessing.get_context("spawn")
    known = 0
    for _ in range(4):
        process = context.Process(target=_ingest_for_ever, args=(path,))
        size = path.stat().st_size if path.exists() else 0
        process.start()
        deadline = time.monotonic() + 60
        while (not path.exists() or path.stat().st_size < size + 30_000) and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(random.uniform(0, 0.1))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        dataset = Dataset(path)
        ids = dataset.ingested()  # the first to look, as in a trainer that starts again
        assert len(ids) > known
        assert len(ids) % 3 == 0
        assert dataset.count() == len(ids)
        known = len(ids)
    assert len(dataset.ingest([make_row("f" * 20)])) == 1


def test_what_a_kill_in_the_middle_of_a_commit_left_is_rolled_back(tmp_path):
    path = tmp_path / "dataset.db"
    Dataset(path).ingest([make_row()])
    killed = tmp_path / "killed.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma cache_size = 1")  # pages reach the file before the commit
        connection.execute("delete from text_key_values")
        connection.executemany("insert into text_key_values values ('task', ?, 1)", [(f"{i:0500}",) for i in range(99)])
        for ending in ("", "-journal"):
            shutil.copyfile(f"{path}{ending}", f"{killed}{ending}")
        connection.rollback()
    assert Dataset(killed).ingested() == {make_row().task_id}
    assert not Path(f"{killed}-journal").exists()


def test_a_kill_while_the_file_is_made_does_no_harm(tmp_path):
    (tmp_path / ".dataset.db.new").write_bytes(b"half a database")
    dataset = Dataset(tmp_path / "dataset.db")
    assert dataset.ingested() == set()
    assert len(dataset.ingest([make_row()])) == 1
    assert dataset.count() == 1


def damage_the_middle(path):
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)


@pytest.mark.parametrize("spoil", [
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(b"not a database, but long enough to be looked at" * 100),
    lambda path: os.truncate(path, path.stat().st_size // 2),
    damage_the_middle,
])  # fmt: skip
def test_damage_is_seen_and_the_file_can_be_set_aside(tmp_path, spoil):
    path = tmp_path / "dataset.db"
    dataset = Dataset(path)
    assert dataset.damage() is None
    dataset.ingest([make_row()])
    assert dataset.damage() is None
    stamp = dataset.stamp()
    spoil(path)
    assert dataset.damage()
    assert dataset.stamp() != stamp
    (tmp_path / "dataset.db-journal").write_bytes(b"of the old one")
    assert dataset.set_aside() == tmp_path / "dataset.db.damaged-1"
    assert dataset.damage() is dataset.stamp() is None
    assert dataset.ingest([make_row()]) == [make_row().task_id]
    spoil(path)
    assert dataset.set_aside().name == "dataset.db.damaged-2"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "dataset.db.damaged-1", "dataset.db.damaged-1-journal", "dataset.db.damaged-2",
    ]  # fmt: skip


def test_a_journal_that_lost_its_database_does_not_harm_the_next_one(tmp_path):
    (tmp_path / "dataset.db-journal").write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + bytes(504))
    dataset = Dataset(tmp_path / "dataset.db")
    dataset.ingest([make_row()])
    assert dataset.count() == 1
    assert dataset.damage() is None
