"""MaxVol: training rows are inside, noise is nothing, what was never seen is outside."""

import subprocess
import sys

import numpy as np
import pytest

from mlip_autopipec.ace import maxvol as module
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


def test_generators_which_can_be_read_only_once_are_refused():
    with pytest.raises(ValueError, match="several times"):
        active_set(block for block in [np.ones((3, 2))])


def test_rows_that_are_not_a_table_are_refused():
    with pytest.raises(ValueError, match="two-dimensional"):
        active_set([np.ones(3)])


def test_blocks_of_any_size_give_an_active_set_of_the_same_volume(monkeypatch):
    rows = random_rows(700, 12)
    whole = active_set(rows)
    monkeypatch.setattr(module, "_BLOCK", 12 * 25)
    for blocks in (rows, [rows[:5], rows[5:5], rows[5:640], rows[640:]]):
        active = active_set(blocks)
        np.testing.assert_array_equal(active.rows, rows[active.indices])
        assert active.gamma(rows).max() <= 1.0011
        np.testing.assert_allclose(active.gamma(active.rows), 1.0, atol=1e-6)
        # Local maxima of the volume: not the same rows, but none far below another.
        volumes = [np.linalg.slogdet(found.inverse)[1] for found in (active, whole)]
        assert abs(volumes[0] - volumes[1]) < 1.0


def test_rank_deficient_blocks_are_measured_together(monkeypatch):
    """No block alone spans what all do."""
    rng = np.random.default_rng(3)
    rows = np.zeros((300, 9))
    for part in range(3):
        rows[100 * part : 100 * part + 100, 3 * part : 3 * part + 3] = rng.normal(size=(100, 3))
    rows = rows @ rng.normal(size=(9, 9))[:, :8]
    monkeypatch.setattr(module, "_BLOCK", 8 * 50)
    active = active_set(rows)
    assert len(active.indices) == 8
    assert active.gamma(rows).max() <= 1.0011


_CHILD = """
import resource, sys
import numpy as np
from mlip_autopipec.ace.maxvol import active_set

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

class Blocks:
    "Never all in memory: made again on every pass."
    def __init__(self, n, k):
        self.n, self.k = n, k
    def __iter__(self):
        mixing = np.eye(self.k) + 0.9 * np.random.default_rng(0).normal(size=(self.k, self.k))
        for first in range(0, self.n, 2000):
            rows = np.random.default_rng(first).normal(size=(2000, self.k)) @ mixing
            rows *= np.logspace(0, -6, self.k)
            yield rows

n, k = int(sys.argv[1]), int(sys.argv[2])
before = peak()
rows = Blocks(n, k)
if sys.argv[3] == "array":
    rows = np.empty((n, k))
    for i, block in enumerate(Blocks(n, k)):
        rows[2000 * i : 2000 * i + 2000] = block
active = active_set(rows)
assert len(active.indices) == k
print(peak() - before, peak())
"""


def _peaks(*arguments):
    """MiB that the selection added to a fresh process, and all that it had."""
    child = subprocess.run([sys.executable, "-c", _CHILD, *arguments], check=True, capture_output=True, text=True)
    return [float(number) for number in child.stdout.split()]


def test_memory_does_not_grow_with_the_rows():
    n, k = 150_000, 100
    added, _ = _peaks(str(n), str(k), "blocks")
    assert added < 0.7 * n * k * 8 / 2**20


@pytest.mark.slow
def test_two_hundred_thousand_environments_of_five_hundred_functions_fit_into_two_gib():
    _, peak = _peaks("200000", "500", "array")
    assert peak < 2048
