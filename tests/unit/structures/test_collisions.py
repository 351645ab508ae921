"""What counts as too near depends on the structure, not on its worst pair."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.structures.collisions import resolve, usual_distances


def usual(atoms: Atoms, **repeat: int) -> dict[tuple[int, int], float]:
    """Ask for the middle cell of a 3 x 3 x 3 repetition."""
    many = atoms * (3, 3, 3)
    inner = slice(13 * len(atoms), 14 * len(atoms))
    return usual_distances(many.numbers[inner], many.positions[inner], many.numbers, many.positions)


def test_crystal() -> None:
    assert usual(bulk("Al", cubic=True) * 2)[13, 13] == pytest.approx(4.05 / np.sqrt(2))


def test_one_close_pair_does_not_count() -> None:
    atoms = bulk("Al", cubic=True) * 2
    atoms.positions[5] += 0.6 * (atoms.positions[6] - atoms.positions[5])
    assert usual(atoms)[13, 13] == pytest.approx(4.05 / np.sqrt(2))


def test_ions_of_one_sign_stay_apart() -> None:
    distances = usual(bulk("NaCl", "rocksalt", a=5.64, cubic=True))
    assert distances[11, 17] == distances[17, 11] == pytest.approx(2.82)
    assert distances[11, 11] == pytest.approx(5.64 / np.sqrt(2))


def test_rare_impurities_may_come_as_near_as_their_size_allows() -> None:
    atoms = bulk("Al", cubic=True) * 4
    atoms.numbers[0] = 29
    distances = usual(atoms)
    assert distances[13, 29] == pytest.approx(2.864, abs=0.01)
    assert 2.5 < distances[29, 29] < 4.7


def test_a_lone_atom_has_no_usual_distance() -> None:
    alone = np.zeros((1, 3))
    assert usual_distances(np.array([18]), alone, np.array([18]), alone) == {}


def test_resolve_removes_as_few_as_the_order_allows() -> None:
    # Outer to inner: 3 - 2 - 1 in a chain. Without 2 (which meets 1), 3 meets nobody.
    vectors = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [3, 0, 0]])
    contacts = (np.array([2, 2]), np.array([3, 1]), np.array([0.5, 0.6]))
    (removed,) = resolve(contacts, vectors, np.linalg.norm(vectors, axis=1))
    assert (removed.outer, removed.inner, removed.distance) == (2, 1, 0.6)
