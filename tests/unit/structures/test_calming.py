"""A calmed seam: nothing moves far, the core not at all, and fewer atoms are lost."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.structures.calming import calm
from mlip_autopipec.structures.embedding import extract_periodic_subsystem


def melt(seed: int = 4) -> Atoms:
    atoms = bulk("Al", a=4.15, cubic=True) * (6, 6, 6)
    atoms.rattle(0.45, seed=seed)
    return atoms


def test_a_pair_across_the_boundary_is_moved_to_its_limit() -> None:
    vectors = np.array([[-4.8, 0.0, 0.0], [4.8, 0.0, 0.0], [0.0, 0.0, 0.0]])
    cell, limits, everything = np.eye(3) * 11.5, np.full((3, 3), 2.2), np.ones(3, dtype=bool)
    arguments = (cell, everything, limits, everything)
    units = np.arange(3)
    moved = calm(vectors, *arguments, np.array([True, True, False]), units, 0.3)
    assert moved[0, 0] + 11.5 - moved[1, 0] == pytest.approx(2.2, abs=2e-3)
    assert moved[2] == pytest.approx(0.0)
    capped = calm(vectors, *arguments, np.array([True, True, False]), units, 0.05)
    assert np.abs(capped - vectors).max() == pytest.approx(0.05)
    assert np.array_equal(calm(vectors, *arguments, everything & False, units, 0.3), vectors)


def test_a_close_pair_of_the_parent_is_left_as_it_is() -> None:
    vectors = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    everything, both = np.ones(3, dtype=bool), np.ones(2, dtype=bool)
    moved = calm(vectors, np.eye(3) * 9, everything, np.full((2, 2), 2.2), everything, both, np.arange(2), 0.3)
    assert np.array_equal(moved, vectors)


def test_molecules_move_rigidly() -> None:
    vectors = np.array([[-4.8, 0.0, 0.0], [-4.8, 0.0, 1.0], [4.8, 0.0, 0.0]])
    free = np.ones(3, dtype=bool)
    moved = calm(
        vectors, np.eye(3) * 11.5, free, np.full((3, 3), 2.2), np.ones(3, bool), free, np.array([0, 0, 2]), 0.3
    )
    assert moved[1] - moved[0] == pytest.approx(vectors[1] - vectors[0])
    assert np.abs(moved - vectors).max() > 0.01


@pytest.mark.parametrize("mode", ["box", "sphere"])
@pytest.mark.parametrize("center", [3, 400, 700])
def test_in_a_melt(mode: str, center: int) -> None:
    atoms = melt()
    plain = extract_periodic_subsystem(atoms, center, 3.0, 2.0, mode)
    calmed = extract_periodic_subsystem(atoms, center, 3.0, 2.0, mode, seam_move=0.3)
    assert len(calmed.removed) <= len(plain.removed)
    assert calmed.largest_move <= 0.3 + 1e-9
    assert plain.largest_move == 0.0
    for carved in (plain, calmed):
        core = carved.atoms.positions[carved.core] - carved.atoms.positions[carved.center]
        wanted = atoms.get_distances(center, carved.parent_indices[carved.core], mic=True, vector=True)
        assert np.allclose(core, wanted, atol=1e-9)


def test_no_larger_move_is_allowed() -> None:
    with pytest.raises(DataError, match="seam_move"):
        extract_periodic_subsystem(melt(), 3, 3.0, 2.0, seam_move=0.4)
