"""A crystal's own repeats are found through heat, defects and alloying; a liquid has none."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.structures.embedding import extract_periodic_subsystem
from mlip_autopipec.structures.snapping import repeats, snapped
from mlip_autopipec.structures.window import complete_parent


def repeats_of(atoms: Atoms) -> list[int]:
    return repeats(complete_parent(atoms.cell.array, atoms.pbc), atoms.numbers, atoms.positions).tolist()


def hot_aluminium(repeat: int = 5, sigma: float = 0.17) -> Atoms:
    atoms = bulk("Al", cubic=True) * (repeat, repeat, repeat)
    atoms.rattle(sigma, seed=1)
    return atoms


def test_hot_crystals_with_defects_repeat() -> None:
    atoms = hot_aluminium()
    del atoms[[7, 100, 101]]
    assert repeats_of(atoms) == [5, 5, 5]
    primitive = bulk("Al") * (6, 5, 4)
    primitive.rattle(0.15, seed=2)
    assert repeats_of(primitive) == [6, 5, 4]


def test_random_alloys_repeat_as_a_lattice_and_ions_only_as_ions() -> None:
    alloy = hot_aluminium()
    alloy.symbols[np.random.default_rng(3).random(len(alloy)) < 0.5] = "Cu"
    assert repeats_of(alloy) == [5, 5, 5]
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (3, 3, 3)
    salt.rattle(0.1, seed=4)
    assert repeats_of(salt) == [3, 3, 3]  # not 6: half the period puts Na upon Cl


def test_liquids_and_open_structures_do_not_repeat() -> None:
    liquid = Atoms("Al200", positions=np.random.default_rng(5).uniform(0, 16, (200, 3)), cell=[16] * 3, pbc=True)
    assert repeats_of(liquid) == [1, 1, 1]
    slab = hot_aluminium()
    slab.pbc = (True, True, False)
    assert repeats_of(slab) == [1, 1, 1]


def test_edges_are_multiples_of_the_repeats() -> None:
    parent = complete_parent(np.diag([20.0, 20.0, 30.0]), np.array([True] * 3))
    assert snapped(parent, np.array([5, 5, 1]), 9.0) == pytest.approx([12.0, 12.0, 9.0])
    assert snapped(parent, np.array([5, 5, 1]), 8.0) == pytest.approx([8.0, 8.0, 8.0])


@pytest.mark.parametrize("center", range(0, 500, 61))
def test_a_snapped_cell_of_a_hot_crystal_is_whole(center: int) -> None:
    carved = extract_periodic_subsystem(hot_aluminium(), center, 3.0, 2.0, "snap")
    assert carved.atoms.cell.lengths() == pytest.approx([12.15] * 3)
    assert len(carved.atoms) == 108
    assert not carved.removed
    assert carved.contacts == 0


def test_a_snapped_cell_holds_the_defect_of_its_parent() -> None:
    atoms = hot_aluminium()
    center = 240
    neighbour = int(np.argsort(atoms.get_distances(center, range(len(atoms)), mic=True))[1])
    del atoms[neighbour]
    carved = extract_periodic_subsystem(atoms, center - (neighbour < center), 3.0, 2.0, "snap")
    assert len(carved.atoms) == 107
    assert carved.contacts == 0


def test_without_repeats_snap_is_box() -> None:
    rng = np.random.default_rng(6)
    liquid = Atoms("Al300", positions=rng.uniform(0, 19, (300, 3)), cell=[19] * 3, pbc=True)
    box, snap = (extract_periodic_subsystem(liquid, 5, 3.0, 2.0, mode) for mode in ("box", "snap"))
    assert snap.parent_indices.tolist() == box.parent_indices.tolist()
    assert np.allclose(snap.atoms.positions, box.atoms.positions)
