"""Units: what is kept or left out as a whole. A molecule is one unit, and so is every atom that belongs to none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from vesin import NeighborList

from mlip_autopipec.structures.window import FloatArray, IndexArray, Parent

# What molecules are made of. Metals, and silicon, build networks that no window holds whole.
MOLECULAR: Final = frozenset(atomic_numbers[s] for s in ("H", "B", "C", "N", "O", "F", "P", "S", "Cl", "Se", "Br", "I"))
# A bond is shorter than this multiple of the sum of covalent radii (doi:10.1039/b801115j): vibrations and strained
# bonds reach 1.2, hydrogen bonds and contacts between molecules begin at 1.7.
BOND_FACTOR: Final = 1.25
# Larger ones are chains and networks: cutting them is all that a small cell can do.
_LARGEST_MOLECULE: Final = 40


@dataclass(frozen=True)
class Units:
    """To which unit each atom belongs.

    Attributes
    ----------
    of_atom : (N,), the unit's number, which is the index of its first atom
    vectors : (N, 3) A, from the unit's first atom to the atom, along its bonds (so across periodic boundaries)
    networks : atoms of bonded components that are too large to be kept whole; each is a unit of its own
    """

    of_atom: IndexArray
    vectors: FloatArray
    networks: IndexArray

    @property
    def are_atoms(self) -> bool:
        """True if every unit is a single atom."""
        return bool((self.of_atom == np.arange(len(self.of_atom))).all())

    def kinds(self, numbers: IndexArray) -> dict[int, tuple[int, ...]]:
        """Return by unit what it is made of: the sorted atomic numbers of its atoms, given `numbers` (N,) of all."""
        members: dict[int, list[int]] = {}
        for unit, number in zip(self.of_atom.tolist(), np.asarray(numbers).tolist(), strict=True):
            members.setdefault(unit, []).append(number)
        return {unit: tuple(sorted(found)) for unit, found in members.items()}


def single_atoms(n_atoms: int) -> Units:
    """Return units of one atom each."""
    return Units(np.arange(n_atoms), np.zeros((n_atoms, 3)), np.zeros(0, dtype=np.int64))


def find_units(parent: Parent, numbers: IndexArray, positions: FloatArray) -> Units:
    """Find the molecules by their covalent bonds.

    Parameters
    ----------
    numbers, positions : (N,), (N, 3) A
    """
    units = single_atoms(len(numbers))
    members = np.flatnonzero(np.isin(numbers, list(MOLECULAR)))
    if len(members) < 2:
        return units
    bonds = _bonds(parent, numbers[members], positions[members])
    networks: list[int] = []
    for atoms, vectors, is_whole in _components(len(members), bonds):
        if len(atoms) == 1 and is_whole:
            continue
        if not is_whole or len(atoms) > _LARGEST_MOLECULE:
            networks.extend(members[atoms].tolist())
            continue
        order = np.argsort(members[atoms])
        indices = members[atoms][order]
        units.of_atom[indices] = indices[0]
        units.vectors[indices] = vectors[order] - vectors[order[0]]
    return Units(units.of_atom, units.vectors, np.array(sorted(networks), dtype=np.int64))


def _bonds(parent: Parent, numbers: IndexArray, positions: FloatArray) -> list[list[tuple[int, FloatArray]]]:
    """Return for each atom its bonded neighbours with the vectors to them, A."""
    radii = covalent_radii[numbers]
    pairs = NeighborList(cutoff=float(2.0 * BOND_FACTOR * radii.max()), full_list=True)
    first, second, vectors, distances = pairs.compute(positions, parent.basis, parent.periodic, "ijDd")
    near = distances < BOND_FACTOR * (radii[first.astype(int)] + radii[second.astype(int)])
    found: list[list[tuple[int, FloatArray]]] = [[] for _ in numbers]
    for i, j, vector in zip(first[near].tolist(), second[near].tolist(), vectors[near], strict=True):
        found[int(i)].append((int(j), vector))
    return found


def _components(n_atoms: int, bonds: list[list[tuple[int, FloatArray]]]) -> list[tuple[IndexArray, FloatArray, bool]]:
    """Return each bonded component: its atoms, their vectors from its first atom, and whether it is finite."""
    place: dict[int, FloatArray] = {}
    components = []
    for start in range(n_atoms):
        if start in place:
            continue
        place[start] = np.zeros(3)
        reached, is_finite = [start], True
        for atom in reached:
            for other, vector in bonds[atom]:
                there = place[atom] + vector
                if other not in place:
                    place[other] = there
                    reached.append(other)
                elif np.abs(place[other] - there).max() > 0.1:  # it meets its own image
                    is_finite = False
        components.append((np.array(reached), np.array([place[a] for a in reached]), is_finite))
    return components
