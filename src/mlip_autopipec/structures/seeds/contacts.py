"""How near atoms of two elements come: in the crystals of a material, and in any structure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from vesin import NeighborList

from mlip_autopipec.core.interfaces import FloatArray, IntArray
from mlip_autopipec.core.neighbours import complete_cell

_REACH_A: Final = 6.0

Bonds = Mapping[tuple[str, str], float]


def bonds(elements: Iterable[str], crystals: Iterable[Atoms]) -> dict[tuple[str, str], float]:
    """Return the shortest distance of each pair of elements (in both orders) in these crystals, A.

    Pairs that are in none of them get the mean of the two elements', or the sum of their covalent radii.
    """
    names = sorted(elements)
    found: dict[tuple[str, str], float] = {}
    for atoms in crystals:
        symbols = np.asarray(atoms.get_chemical_symbols())
        first, second, distances = pairs(atoms, _REACH_A)
        for i, j, d in zip(symbols[first], symbols[second], distances, strict=True):
            pair = (str(i), str(j))
            found[pair] = min(found.get(pair, np.inf), float(d))
    like = {e: found.get((e, e), 2.0 * float(covalent_radii[atomic_numbers[e]])) for e in names}
    return {(a, b): found.get((a, b), 0.5 * (like[a] + like[b])) for a in names for b in names}


def pairs(atoms: Atoms, cutoff: float) -> tuple[IntArray, IntArray, FloatArray]:
    """Return both atoms and the distance (A) of all pairs nearer than `cutoff`, each in both directions."""
    first, second, distances, _ = pairs_with_vectors(atoms, cutoff)
    return first, second, distances


def pairs_with_vectors(atoms: Atoms, cutoff: float) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Return what `pairs` does, and (n, 3) the vectors from the first to the second atom, A."""
    builder = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    cell = complete_cell(np.asarray(atoms.cell, dtype=float), [bool(p) for p in atoms.pbc])
    periodic = [bool(p) for p in atoms.pbc]
    first, second, distances, vectors = builder.compute(np.asarray(atoms.positions), cell, periodic, "ijdD")
    return first, second, distances, vectors


def closeness(atoms: Atoms) -> float:
    """Return the smallest distance / sum of covalent radii of all pairs; infinity without neighbours."""
    radii = covalent_radii[atoms.numbers]
    first, second, distances = pairs(atoms, 2.0 * float(radii.max()))
    return float((distances / (radii[first] + radii[second])).min()) if len(distances) else float("inf")
