"""What grows with the labels: the same bits as from scratch, and active sets that cover all they have seen."""

from dataclasses import replace

import numpy as np
import pytest

from mlip_autopipec.ace.growing import GrowingRows, GrowingSet
from mlip_autopipec.ace.linear import LabelledDesign, RowReducer
from mlip_autopipec.ace.maxvol import active_set
from mlip_autopipec.ace.rowblocks import RowBlocks
from mlip_autopipec.core.errors import DataError
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
            return [(None, structure(seeds[place]))]

        return growing.triangle(seeds, give, {})


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
        growing.triangle([0, 1], lambda place: [(None, structure(0) if place == 0 else _raise())], {})
    reader = Reader()
    found = reader.triangle(growing, [0, 1])
    assert reader.read == [1]
    assert same_bits(found, Reader().triangle(GrowingRows(COLUMNS), [0, 1]))


def test_a_label_that_is_refused_half_way_leaves_nothing_behind():
    """Its energy is finite, its forces are not."""
    broken = replace(structure(1), forces=np.full((5, 3), np.nan), energy_weight=0.0)
    growing = GrowingRows(COLUMNS)
    with pytest.raises(DataError, match="not finite"):
        growing.triangle([0, 1], lambda place: [(None, structure(place)), *([("forces", broken)] * place)], {})
    found = growing.triangle([0], lambda place: [(None, structure(place))], {})
    assert same_bits(found, Reader().triangle(GrowingRows(COLUMNS), [0]))


def test_parts_get_their_factors_when_they_are_put_together_and_no_row_is_read_again():
    """The normal equations are those of rows that had the weights from the beginning."""
    growing, reads = GrowingRows(COLUMNS), []

    def give(place):
        reads.append(place)
        return [("even" if place % 2 == 0 else "odd", structure(place))]

    for scales in ({"even": 1.0, "odd": 1.0}, {"even": 4.0, "odd": 0.25}, {"even": 0.0, "odd": 2.0}):
        found = growing.triangle(range(8), give, scales)
        rows = [(scales["even" if n % 2 == 0 else "odd"], *structure(n).rows()) for n in range(8)]
        normal = sum(scale * matrix.T @ matrix for scale, matrix, _ in rows)
        right = sum(scale * matrix.T @ targets for scale, matrix, targets in rows)
        np.testing.assert_allclose(found.matrix.T @ found.matrix, normal, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(found.matrix.T @ found.targets, right, rtol=1e-10, atol=1e-10)
        squares = sum(scale * targets @ targets for scale, _, targets in rows)
        assert found.targets @ found.targets + found.rest == pytest.approx(squares)
    assert reads == list(range(8))


def _raise():
    raise RuntimeError("no rows")


class Reading:
    """Rows in blocks of five; counts how often each block is read."""

    def __init__(self, rows):
        self.rows, self.reads = rows, np.zeros(len(rows) // 5, dtype=int)

    def first(self, n):
        return RowBlocks([5] * (n // 5), self._block)

    def _block(self, place):
        self.reads[place] += 1
        return self.rows[5 * place : 5 * place + 5]


def in_block(rows):
    return RowBlocks([len(rows)], lambda _: rows)


def test_rows_inside_change_nothing_and_the_old_ones_are_not_read():
    old = np.random.default_rng(1).normal(size=(200, 6))
    reading = Reading(np.concatenate([old, 0.5 * old[:20]]))
    before = GrowingSet().of(None, reading.first(200))
    assert (before.n_seen, before.n_selected) == (200, 200)
    assert before.active.inverse.tobytes() == active_set(old).inverse.tobytes()
    reading.reads[:] = 0
    after = GrowingSet().of(before, reading.first(220))  # in another process
    assert (after.n_seen, after.n_selected) == (220, 200)
    assert after.active.inverse.tobytes() == before.active.inverse.tobytes()
    assert not reading.reads[:40].any()


@pytest.mark.parametrize("seed", range(5))
def test_rows_outside_are_taken_in_and_all_stay_known(seed):
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.normal(size=(300, 8)), 2 * rng.normal(size=(20, 8))])
    growing = GrowingSet()
    before = growing.of(None, in_block(rows[:300]))
    after = growing.of(before, RowBlocks([300, 20], lambda place: (rows[:300], rows[300:])[place]))
    assert before.active.gamma(rows[300:]).max() > 1.5
    assert after.active.gamma(rows).max() <= 1.0011
    assert rows[after.active.indices].tobytes() == after.active.rows.tobytes()
    assert (after.n_seen, after.n_selected) == (320, 300)
    # As large a volume as the selection from scratch finds (both are local maxima).
    volumes = [np.linalg.slogdet(found.rows)[1] for found in (after.active, active_set(rows))]
    assert volumes[0] > volumes[1] - 0.7


def test_many_refits_read_little_and_go_the_way_of_processes_that_begin_anew():
    rng = np.random.default_rng(11)
    rows = rng.normal(size=(1900, 30)) * rng.lognormal(0.0, 0.4, size=(1900, 1))
    rows[1500] *= 1e6  # an explosion
    reading = Reading(rows)
    growing = GrowingSet()
    found = growing.of(None, reading.first(1000))
    reading.reads[:] = 0
    for n in range(1020, 1900, 40):
        anew = GrowingSet().of(found, RowBlocks([n], lambda _, n=n: rows[:n]))
        found = growing.of(found, reading.first(n))
        assert found.active.inverse.tobytes() == anew.active.inverse.tobytes()
        assert found.active.gamma(rows[:n]).max() <= 1.0011
    assert found.n_selected == 1000
    assert reading.reads[:200].sum() < 600  # of 22 times 200


def test_other_rows_are_not_taken_for_those_that_were_seen():
    rows = np.random.default_rng(4).normal(size=(300, 6))
    rows[200:250] *= 2.0
    rows[250:] *= 3.0
    growing = GrowingSet()
    before = growing.of(None, in_block(rows[:200]), ["a"])
    growing.of(before, in_block(rows[:250]), ["a", "b"])  # was not published
    other = np.concatenate([rows[:200], rows[250:]])
    found = growing.of(before, in_block(other), ["a", "c"])
    assert found.active.gamma(other).max() <= 1.0011
    assert found.active.inverse.tobytes() == GrowingSet().of(before, in_block(other)).active.inverse.tobytes()


def test_a_direction_that_nobody_had_begins_anew():
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(110, 5))
    rows[:100, 4] = 0.0
    growing = GrowingSet()
    before = growing.of(None, in_block(rows[:100]))
    assert len(before.active.indices) == 4
    after = growing.of(before, in_block(rows))
    assert len(after.active.indices) == 5
    assert after.active.gamma(rows).max() <= 1.0011


def test_all_are_selected_anew_when_they_have_doubled():
    rows = np.random.default_rng(2).normal(size=(401, 6))
    growing = GrowingSet()
    before = growing.of(None, in_block(rows[:200]))
    kept = growing.of(before, in_block(rows[:400]))
    assert kept.n_selected == 200
    anew = growing.of(kept, in_block(rows))
    assert anew.n_selected == 401
    assert anew.active.gamma(rows).max() <= 1.001


def test_nothing_new_changes_nothing():
    reading = Reading(np.random.default_rng(3).normal(size=(50, 4)))
    growing = GrowingSet()
    before = growing.of(None, reading.first(50))
    reading.reads[:] = 0
    after = growing.of(before, reading.first(50))
    assert after.active.inverse.tobytes() == before.active.inverse.tobytes()
    assert not reading.reads.any()
