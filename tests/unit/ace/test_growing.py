"""What grows with the labels: the same bits as from scratch, and active sets that cover all they have seen."""

from dataclasses import replace

import numpy as np
import pytest

from mlip_autopipec.ace.growing import GrowingRows, grown_set
from mlip_autopipec.ace.linear import LabelledDesign, RowReducer
from mlip_autopipec.ace.maxvol import active_set
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


def never():
    raise AssertionError("was not needed")


def test_rows_inside_change_nothing_and_the_old_ones_are_not_read():
    rng = np.random.default_rng(1)
    old = rng.normal(size=(200, 6))
    before = grown_set(None, 200, never, lambda: old)
    assert (before.n_seen, before.n_selected) == (200, 200)
    assert before.active.inverse.tobytes() == active_set(old).inverse.tobytes()
    after = grown_set(before, 220, lambda: 0.5 * old[:20], never)
    assert (after.n_seen, after.n_selected) == (220, 200)
    assert after.active.inverse.tobytes() == before.active.inverse.tobytes()


@pytest.mark.parametrize("seed", range(5))
def test_rows_outside_are_taken_in_and_all_stay_known(seed):
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.normal(size=(300, 8)), 2 * rng.normal(size=(20, 8))])
    before = grown_set(None, 300, never, lambda: rows[:300])
    after = grown_set(before, 320, lambda: rows[300:], lambda: rows)
    assert before.active.gamma(rows[300:]).max() > 1.5
    assert after.active.gamma(rows).max() <= 1.0011
    assert rows[after.active.indices].tobytes() == after.active.rows.tobytes()
    assert (after.n_seen, after.n_selected) == (320, 300)
    # As large a volume as the selection from scratch finds (both are local maxima).
    volumes = [np.linalg.slogdet(found.rows)[1] for found in (after.active, active_set(rows))]
    assert volumes[0] > volumes[1] - 0.7


def test_a_direction_that_nobody_had_begins_anew():
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(110, 5))
    rows[:100, 4] = 0.0
    before = grown_set(None, 100, never, lambda: rows[:100])
    assert len(before.active.indices) == 4
    after = grown_set(before, 110, lambda: rows[100:], lambda: rows)
    assert len(after.active.indices) == 5
    assert after.active.gamma(rows).max() <= 1.0011


def test_all_are_selected_anew_when_they_have_doubled():
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(401, 6))
    before = grown_set(None, 200, never, lambda: rows[:200])
    kept = grown_set(before, 400, lambda: rows[200:400], lambda: rows[:400])
    assert kept.n_selected == 200
    anew = grown_set(kept, 401, never, lambda: rows)
    assert anew.n_selected == 401
    assert anew.active.gamma(rows).max() <= 1.001


def test_nothing_new_changes_nothing():
    rows = np.random.default_rng(3).normal(size=(50, 4))
    before = grown_set(None, 50, never, lambda: rows)
    after = grown_set(before, 50, never, never)
    assert after.active.inverse.tobytes() == before.active.inverse.tobytes()
