"""What grows with the labels: the same bits as from scratch, and active sets that cover what they have seen."""

import numpy as np
import pytest

from mlip_autopipec.ace.growing import GrowingRows, grown_set
from mlip_autopipec.ace.linear import LabelledDesign, RowReducer
from mlip_autopipec.ace.maxvol import active_set
from mlip_autopipec.core.interfaces import Design

COLUMNS = 12


def structure(seed):
    rng = np.random.default_rng(seed)
    design = Design(rng.normal(size=COLUMNS), rng.normal(size=(5, 3, COLUMNS)), {})
    return LabelledDesign(f"s{seed}", design, rng.normal(), rng.normal(size=(5, 3)), np.ones(5, dtype=bool), 1.0, 1.0)


class Reader:
    """Structures by seed; remembers which were read."""

    def __init__(self):
        self.read = []

    def triangle(self, growing, seeds):
        def give(place):
            self.read.append(seeds[place])
            return structure(seeds[place])

        return growing.triangle(seeds, give)


def same_bits(one, other):
    return (one.matrix.tobytes(), one.targets.tobytes(), one.rest, one.n_rows) == (
        other.matrix.tobytes(), other.targets.tobytes(), other.rest, other.n_rows)  # fmt: skip


@pytest.mark.parametrize("steps", [(9,), (1, 2, 3, 9), (4, 4, 5, 9), (7, 8, 9)])
def test_a_refit_has_the_bits_of_a_fit_from_scratch(steps):
    growing, reader = GrowingRows(COLUMNS), Reader()
    for n in steps:
        found = reader.triangle(growing, list(range(n)))
    assert reader.read == list(range(9))  # each once
    assert same_bits(found, Reader().triangle(GrowingRows(COLUMNS), list(range(9))))
    reducer = RowReducer(COLUMNS)
    for seed in range(9):
        reducer.add(*structure(seed).rows())
    assert same_bits(found, reducer.triangle())


@pytest.mark.parametrize("seeds", [[0, 1, 2], [0, 1, 2, 4, 3], [0, 9, 2, 3, 4, 5]])
def test_what_left_or_changed_leaves_no_trace(seeds):
    growing, reader = GrowingRows(COLUMNS), Reader()
    reader.triangle(growing, [0, 1, 2, 3, 4])
    reader.read.clear()
    found = reader.triangle(growing, seeds)
    assert reader.read == seeds
    assert same_bits(found, Reader().triangle(GrowingRows(COLUMNS), seeds))


def test_a_structure_that_cannot_be_read_is_not_taken():
    growing = GrowingRows(COLUMNS)
    with pytest.raises(RuntimeError):
        growing.triangle([0, 1], lambda place: structure(0) if place == 0 else _raise())
    reader = Reader()
    found = reader.triangle(growing, [0, 1])
    assert reader.read == [1]
    assert same_bits(found, Reader().triangle(GrowingRows(COLUMNS), [0, 1]))


def _raise():
    raise RuntimeError("no rows")


def never():
    raise AssertionError("was not needed")


def test_new_rows_extend_the_set_and_the_old_ones_are_not_read():
    rng = np.random.default_rng(1)
    old, new = rng.normal(size=(200, 6)), 3 * rng.normal(size=(20, 6))
    before = grown_set(None, 200, never, lambda: old)
    assert (before.n_seen, before.n_selected) == (200, 200)
    assert before.active.inverse.tobytes() == active_set(old).inverse.tobytes()
    after = grown_set(before, 220, lambda: new, never)
    assert (after.n_seen, after.n_selected) == (220, 200)
    assert before.active.gamma(new).max() > 1.5
    assert after.active.gamma(new).max() <= 1.001
    assert after.active.gamma(old).max() <= 1.05


def test_all_are_selected_anew_when_they_have_doubled():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(401, 6))
    before = grown_set(None, 200, never, lambda: rows[:200])
    kept = grown_set(before, 400, lambda: rows[200:400], never)
    assert kept.n_selected == 200
    anew = grown_set(kept, 401, never, lambda: rows)
    assert anew.n_selected == 401
    assert anew.active.gamma(rows).max() <= 1.001


def test_nothing_new_changes_nothing():
    rows = np.random.default_rng(3).normal(size=(50, 4))
    before = grown_set(None, 50, never, lambda: rows)
    after = grown_set(before, 50, never, never)
    assert after.active.inverse.tobytes() == before.active.inverse.tobytes()
