"""Molecules are found across boundaries and never cut; networks are what they are."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from mlip_autopipec.structures.embedding import extract_periodic_subsystem
from mlip_autopipec.structures.units import Units, find_units
from mlip_autopipec.structures.window import complete_parent


def units_of(atoms: Atoms) -> Units:
    return find_units(complete_parent(atoms.cell.array, atoms.pbc), atoms.numbers, atoms.positions)


def water(n: int = 5, spacing: float = 3.1, seed: int = 0) -> Atoms:
    """n^3 molecules with random orientation on a cubic grid; wrapped, so that some lie across the boundary."""
    rng = np.random.default_rng(seed)
    box = Atoms(cell=[n * spacing] * 3, pbc=True)
    for place in np.ndindex(n, n, n):
        one = molecule("H2O")
        one.rotate(360 * rng.random(), rng.normal(size=3))
        one.translate(spacing * np.array(place) - one.positions.mean(axis=0))
        box += one
    box.wrap()
    return box


def test_water_across_the_boundary() -> None:
    atoms = water()
    units = units_of(atoms)
    assert units.of_atom.tolist() == [3 * (i // 3) for i in range(len(atoms))]
    bonds = np.linalg.norm(units.vectors[units.of_atom != np.arange(len(atoms))], axis=1)
    assert bonds == pytest.approx(0.97, abs=0.01)
    assert set(units.kinds(atoms.numbers).values()) == {(1, 1, 8)}


def test_metals_oxides_and_networks_are_single_atoms() -> None:
    assert units_of(bulk("Al", cubic=True) * 3).are_atoms
    assert units_of(bulk("MgO", "rocksalt", a=4.21, cubic=True) * 2).are_atoms
    diamond = bulk("C", cubic=True) * 3
    units = units_of(diamond)
    assert units.are_atoms
    assert len(units.networks) == len(diamond)


@pytest.mark.parametrize("mode", ["box", "sphere"])
@pytest.mark.parametrize("center", [0, 61, 188, 301])
def test_no_molecule_is_ever_cut(mode: str, center: int) -> None:
    atoms = water()
    carved = extract_periodic_subsystem(atoms, center, 2.6, 2.2, mode)
    whole = units_of(carved.atoms)
    assert set(whole.kinds(carved.atoms.numbers).values()) == {(1, 1, 8)}
    assert {len(set(carved.parent_indices[whole.of_atom == u] // 3)) for u in set(whole.of_atom)} == {1}
    # The core is there as it was, all of it.
    near = np.flatnonzero(atoms.get_distances(center, range(len(atoms)), mic=True) < 2.6)
    assert sorted(carved.parent_indices[carved.core]) == near.tolist()
    assert all(removal.parent_index in range(len(atoms)) for removal in carved.removed)
    gone = [r.parent_index // 3 for r in carved.removed]
    assert all(gone.count(g) == 3 for g in gone)  # a molecule goes as a whole


def test_atoms_of_molecules_may_be_cut_if_wanted() -> None:
    carved = extract_periodic_subsystem(water(), 61, 2.6, 2.2, whole_molecules=False)
    assert set(units_of(carved.atoms).kinds(carved.atoms.numbers).values()) != {(1, 1, 8)}


def test_contacts_between_molecules_are_not_judged_by_bonds() -> None:
    # The usual distance between molecules is far above a bond: no two molecules end up a bond's length apart.
    atoms = water()
    carved = extract_periodic_subsystem(atoms, 150, 2.6, 1.5)
    units = units_of(carved.atoms).of_atom
    distances = carved.atoms.get_all_distances(mic=True)
    between = distances[units[:, None] != units[None, :]]
    parent = atoms.get_all_distances(mic=True)
    owner = np.arange(len(atoms)) // 3
    assert between.min() > 0.7 * parent[owner[:, None] != owner[None, :]].min()


def test_a_cut_network_is_told() -> None:
    diamond = bulk("C", cubic=True) * 5
    assert any("network" in w for w in extract_periodic_subsystem(diamond, 7, 2.0, 2.0).warnings)
