"""Rows in memory follow the file: what came, went, was replaced, and another file."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.store.dataset import Dataset, DatasetRow
from mlip_autopipec.store.keptrows import KeptRows


def row(number):
    return DatasetRow(
        f"{number:020x}", Atoms("Al", cell=[4, 4, 4], pbc=True), float(number), np.zeros((1, 3)), None, (1,), "x"
    )


def told(rows):
    return [(r.task_id, r.energy, r.edition) for r in rows]


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / "dataset.db")


def test_only_new_rows_are_read(dataset, monkeypatch):
    kept = KeptRows(dataset)
    assert kept.rows() == []
    dataset.ingest([row(1), row(2)])
    first = kept.rows()
    dataset.ingest([row(3)])
    asked = []
    whole = dataset.numbered_rows
    monkeypatch.setattr(dataset, "numbered_rows", lambda after=0: asked.append(after) or whole(after))
    second = kept.rows()
    assert asked == [2]
    assert second[:2] == first
    assert told(second) == told(dataset.rows())


def test_rows_that_were_replaced_or_removed(dataset):
    kept = KeptRows(dataset)
    dataset.ingest([row(1), row(2), row(3)])
    kept.rows()
    dataset.replace(replace(row(2), energy=-7.0, edition=1))
    assert told(kept.rows()) == told(dataset.rows())
    assert told(kept.rows())[-1] == (row(2).task_id, -7.0, 1)
    dataset._db.delete([found.id for found in dataset._db.select(task="task-" + row(1).task_id)])
    assert told(kept.rows()) == told(dataset.rows())
    assert len(kept.rows()) == 2


def test_another_file_is_read_anew(dataset):
    kept = KeptRows(dataset)
    dataset.ingest([row(1), row(2)])
    kept.rows()
    dataset.set_aside()
    assert kept.rows() == []
    dataset.ingest([row(4)])
    assert told(kept.rows()) == [(row(4).task_id, 4.0, 0)]
