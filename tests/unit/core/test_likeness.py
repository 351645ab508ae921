"""Like structures are found, and nothing else is."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from hypothesis import given, settings
from hypothesis import strategies as st

from mlip_autopipec.core.likeness import likeness_key, matching

LABELLER = {"engine": "teacher", "model": "emt"}


def alloy(seed: int = 0) -> Atoms:
    atoms = bulk("Cu", cubic=True, a=3.75) * (2, 1, 1)
    atoms.numbers[[1, 4, 6]] = 79
    atoms.rattle(0.1, seed=seed)
    return atoms


def rewritten(atoms: Atoms, seed: int) -> tuple[Atoms, np.ndarray]:
    """The same structure: atoms in another order, moved by any vector, some by whole periods."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(atoms))
    copy = atoms[order]
    along = np.where(atoms.pbc, random.integers(-2, 3, size=(len(atoms), 3)), 0)
    copy.positions += random.normal(size=3) + along @ atoms.cell.complete()[:]
    return copy, order


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_order_origin_and_images_change_nothing(seed: int) -> None:
    atoms = alloy(seed % 7)
    other, order = rewritten(atoms, seed)
    assert likeness_key(atoms, LABELLER) == likeness_key(other, LABELLER)
    found = matching(other, atoms)
    assert found is not None
    np.testing.assert_array_equal(found, order)


@pytest.mark.parametrize(
    "atoms", [fcc111("Al", (2, 2, 3), vacuum=5.0), Atoms("H2O", [[0, 0, 0], [0, 0, 1], [1, 0, 0]])]
)
def test_open_directions(atoms: Atoms) -> None:
    other, _ = rewritten(atoms, 3)
    assert likeness_key(atoms, LABELLER) == likeness_key(other, LABELLER)
    assert matching(other, atoms) is not None


def test_an_atom_beyond_an_open_side_is_no_image() -> None:
    slab = fcc111("Al", (1, 1, 3), vacuum=5.0)
    moved = slab.copy()
    moved.positions[0] += slab.cell[2]
    assert likeness_key(slab, LABELLER) != likeness_key(moved, LABELLER)
    assert matching(slab, moved) is None


@pytest.mark.parametrize("what", ["position", "element", "cell", "pbc", "mirror", "count"])
def test_what_differs_is_different(what: str) -> None:
    atoms, other = alloy(), alloy()
    if what == "position":
        other.positions[3, 0] += 1e-3
    elif what == "element":
        other.numbers[[0, 1]] = other.numbers[[1, 0]]
    elif what == "cell":
        other.set_cell(other.cell[:] * [1, 1, 1.001])
    elif what == "pbc":
        other.pbc[2] = False
    elif what == "mirror":
        other.positions *= -1
    else:
        del other[0]
    assert likeness_key(atoms, LABELLER) != likeness_key(other, LABELLER)
    assert matching(atoms, other) is None


def test_other_settings_are_another_label() -> None:
    assert likeness_key(alloy(), LABELLER) != likeness_key(alloy(), {**LABELLER, "model": "lj"})


def test_a_perfect_crystal_matches_itself_moved_by_a_lattice_vector() -> None:
    atoms = bulk("Al", cubic=True) * 2
    moved = atoms.copy()
    moved.positions += [2.025, 2.025, 0]
    assert likeness_key(atoms, LABELLER) == likeness_key(moved, LABELLER)
    found = matching(moved, atoms)
    assert found is not None
    assert sorted(found) == list(range(len(atoms)))
