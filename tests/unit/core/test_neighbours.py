"""Neighbour lists with explicit ghosts, against sums over all images."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from ase import Atoms
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip_autopipec.core.errors import DataError, ModelError
from mlip_autopipec.core.neighbours import neighbourhood


def brute_force(atoms: Atoms, cutoff: float) -> list[list[float]]:
    """Sorted distances of every atom, from all images that can matter."""
    reach = [0, 0, 0]
    periodic = [k for k in range(3) if atoms.pbc[k]]
    if periodic:
        inverse = np.linalg.pinv(atoms.cell.array[periodic])
        extent = np.ptp(atoms.positions, axis=0).max() + cutoff
        for n, k in enumerate(periodic):
            reach[k] = int(np.ceil(np.linalg.norm(inverse[:, n]) * extent * 2)) + 1
    found: list[list[float]] = [[] for _ in atoms]
    for shift in itertools.product(*[range(-r, r + 1) for r in reach]):
        moved = atoms.positions + np.array(shift) @ atoms.cell.array
        for i, j in itertools.product(range(len(atoms)), repeat=2):
            distance = float(np.linalg.norm(moved[j] - atoms.positions[i]))
            if distance < cutoff and not (i == j and not any(shift)):
                found[i].append(distance)
    return [sorted(row) for row in found]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 5),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    size=st.floats(1.5, 6.0),
    zero=st.booleans(),
    left=st.booleans(),
)
def test_distances_equal_a_sum_over_images(seed, n, pbc, size, zero, left):
    rng = np.random.default_rng(seed)
    cell = size * (np.eye(3) + rng.uniform(-0.3, 0.3, (3, 3)))
    if left:
        cell = cell[[1, 0, 2]]
    atoms = Atoms(f"Al{n}", positions=rng.uniform(-2, 2 * size, (n, 3)), cell=cell, pbc=pbc)
    if zero:
        for k in range(3):
            if not pbc[k]:
                atoms.cell[k] = 0.0
    cutoff = 3.1
    frame = neighbourhood(atoms, cutoff, ("Ni", "Al"))
    assert frame.n_owned == n
    assert (frame.species == 1).all()
    assert (frame.owners[:n] == np.arange(n)).all()
    assert np.abs(frame.positions[:n] - atoms.positions).max() == 0.0
    shifts = frame.positions - atoms.positions[frame.owners]
    if any(pbc):
        periods = atoms.cell.array[list(pbc)]
        whole = np.linalg.lstsq(periods.T, shifts.T, rcond=None)[0]
        assert np.abs(whole - np.round(whole)).max() < 1e-9
    else:
        assert len(frame.positions) == n
    for i, expected in enumerate(brute_force(atoms, cutoff)):
        rows = frame.neighbours[frame.first[i] : frame.first[i + 1]]
        assert len(set(rows)) == len(rows)
        distances = np.sort(np.linalg.norm(frame.positions[rows] - atoms.positions[i], axis=1))
        assert np.allclose(distances, expected, atol=1e-9)


def test_arrays_are_what_the_interface_says():
    frame = neighbourhood(Atoms("AlNi", [[0, 0, 0], [2, 0, 0]], cell=[4, 4, 4], pbc=True), 5.0, ("Al", "Ni"))
    assert frame.positions.dtype == np.float64
    for name in ("species", "owners", "first", "neighbours"):
        assert getattr(frame, name).dtype == np.int32, name
    assert len(frame.species) == len(frame.owners) == len(frame.positions)


def test_unknown_elements_and_broken_cells_are_refused():
    with pytest.raises(ModelError, match="knows Al, but the structure contains Cu Ni"):
        neighbourhood(Atoms("NiCuAl", np.eye(3)), 3.0, ("Al",))
    flat = Atoms("Al", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True)
    with pytest.raises(DataError, match="linearly dependent"):
        neighbourhood(flat, 3.0, ("Al",))
    with pytest.raises(DataError, match="linearly dependent or zero"):
        neighbourhood(Atoms("Al", cell=[3, 3, 0], pbc=True), 3.0, ("Al",))
    with pytest.raises(DataError, match="not finite"):
        neighbourhood(Atoms("Al", [[np.nan, 0, 0]]), 3.0, ("Al",))
