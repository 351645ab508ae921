"""The virtual active set: exchanges by A^-1 alone are those of MaxVol."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlip_autopipec.ace.maxvol import active_set, grade
from mlip_autopipec.ace.virtual_set import VirtualSet, entered
from mlip_autopipec.core.errors import ModelError


def volume(inverse: np.ndarray) -> float:
    return -float(np.linalg.slogdet(inverse)[1])


@given(st.integers(0, 10_000), st.integers(2, 12), st.integers(1, 20), st.floats(0.5, 10.0))
def test_what_entered_is_known_and_the_gain_is_the_volume(seed: int, k: int, n: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    inverse = active_set(rng.normal(size=(5 * k, k))).inverse
    before = inverse.copy()
    rows = size * rng.normal(size=(n, k))
    changed, gain = entered(inverse, rows)
    assert np.array_equal(inverse, before)
    assert grade(rows, changed).max() <= 1.001 * (1 + 1e-9)
    assert gain == pytest.approx(volume(changed) - volume(inverse), abs=1e-8)
    assert (gain > 0) == bool(grade(rows, inverse).max() > 1.001)


def test_an_exchange_replaces_a_row_of_the_active_set() -> None:
    rng = np.random.default_rng(1)
    inverse = active_set(rng.normal(size=(40, 6))).inverse
    new = 5.0 * rng.normal(size=(1, 6))
    changed, _ = entered(inverse, new)
    old_rows, new_rows = np.linalg.inv(inverse), np.linalg.inv(changed)
    differ = np.flatnonzero(np.abs(old_rows - new_rows).max(axis=1) > 1e-9)
    assert len(differ) == 1
    assert np.allclose(new_rows[differ[0]], new[0])


def test_what_is_inside_changes_nothing() -> None:
    rows = np.random.default_rng(2).normal(size=(50, 5))
    inverse = active_set(rows).inverse
    changed, gain = entered(inverse, rows)
    assert gain == 0.0
    assert np.array_equal(changed, inverse)
    assert entered(inverse, np.zeros((0, 5)))[1] == 0.0


def test_a_second_view_of_the_same_gains_nothing() -> None:
    rng = np.random.default_rng(3)
    virtual = VirtualSet({"Al": active_set(rng.normal(size=(60, 8))).inverse})
    cell = {"Al": 4.0 * rng.normal(size=(3, 8))}
    again = {"Al": cell["Al"] * 0.999}
    other = virtual.copy()
    assert virtual.gain(cell) == pytest.approx(virtual.enter(cell))
    assert virtual.gain(again) == 0.0
    assert virtual.gamma(again) <= 1.001
    assert other.gain(again) > 0.5  # the copy has seen nothing


def test_an_element_without_an_active_set_is_named() -> None:
    with pytest.raises(ModelError, match="Cu"):
        VirtualSet({"Al": np.eye(2)}).gamma({"Cu": np.ones((1, 2))})
