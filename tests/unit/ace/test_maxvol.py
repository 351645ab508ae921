"""MaxVol: training rows are inside, noise is nothing, what was never seen is outside."""

import numpy as np
import pytest

from mlip_autopipec.ace.maxvol import active_set, maxvol


def random_rows(n, k, seed=0, decades=6):
    """Rows whose columns differ by `decades` in size and are strongly correlated, as basis functions are."""
    rng = np.random.default_rng(seed)
    mixing = np.eye(k) + 0.9 * rng.normal(size=(k, k))
    return rng.normal(size=(n, k)) @ mixing * np.logspace(0, -decades, k)


@pytest.mark.parametrize(("n", "k"), [(400, 20), (60, 60), (21, 20)])
def test_full_rank_selects_as_many_rows_as_columns_and_no_row_is_outside(n, k):
    rows = random_rows(n, k)
    active = active_set(rows)
    assert len(set(active.indices)) == k
    assert active.gamma(rows).max() <= 1.0011
    np.testing.assert_allclose(active.gamma(rows[active.indices]), 1.0, atol=1e-6)


def test_inverse_is_that_of_the_selected_rows():
    rows = random_rows(200, 15)
    active = active_set(rows)
    np.testing.assert_allclose(rows[active.indices] @ active.inverse, np.eye(15), atol=1e-6)
    assert active.inverse.flags.c_contiguous
    assert active.inverse.dtype == np.float64


def test_twice_a_training_row_grades_two():
    rows = random_rows(100, 10)
    active = active_set(rows)
    assert active.gamma(2 * rows[active.indices[:1]])[0] == pytest.approx(2.0, abs=1e-6)


def test_volume_is_not_enlarged_by_any_single_exchange():
    rows = random_rows(50, 6, decades=0)
    picked = maxvol(rows)
    volume = abs(np.linalg.det(rows[picked]))
    for row in range(50):
        for place in range(6):
            other = picked.copy()
            other[place] = row
            assert abs(np.linalg.det(rows[other])) <= 1.0011 * volume


@pytest.mark.parametrize("n", [3, 200])
def test_rank_deficient_rows_stay_inside_and_the_missing_direction_is_far_outside(n):
    k = 8
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(n, 3)) @ rng.normal(size=(3, k))
    missing = np.linalg.svd(rows)[2][-1]
    active = active_set(rows)
    assert len(active.indices) == 3
    assert active.gamma(rows).max() <= 1.0011
    # A thousandth of a row's size in a direction that was never seen.
    assert active.gamma(rows[:1] + 1e-3 * missing)[0] > 10
    assert active.gamma(rows[:1] + 1e-12 * missing)[0] < 1.01


def test_rounding_noise_is_no_direction():
    """A perfect crystal: all rows the same but for the last digits, some columns zero but for them."""
    rng = np.random.default_rng(2)
    row = rng.normal(size=12)
    row[4:8] = 0.0
    rows = row + 1e-15 * rng.normal(size=(500, 12))
    active = active_set(rows)
    assert len(active.indices) == 1
    again = row + 1e-15 * rng.normal(size=(500, 12))
    assert active.gamma(again).max() == pytest.approx(1.0, abs=1e-6)
    assert active.gamma(row + 0.05 * rng.normal(size=(20, 12))).min() > 1e2
    assert active.gamma(row + 0.05 * rng.normal(size=(20, 12))).max() < 1e5


@pytest.mark.parametrize("rows", [np.zeros((0, 4)), np.zeros((5, 4))])
def test_without_data_everything_is_outside(rows):
    active = active_set(rows)
    assert len(active.indices) == 0
    assert active.gamma(0.01 * np.ones((1, 4)))[0] > 100
    assert active.gamma(np.zeros((1, 4)))[0] == 0


def test_not_finite_is_refused():
    with pytest.raises(ValueError, match="finite"):
        active_set(np.array([[1.0, np.nan]]))
