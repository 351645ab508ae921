"""Where an antiferromagnetic SCF starts: signs of the moments that oppose each other across the magnetic bonds."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from vesin import NeighborList

from mlip_autopipec.core.interfaces import FloatArray, IntArray

_SHELL = 1.25
_STRAIGHT = -0.85  # cosine of the angle of a superexchange bridge, 148 degrees and more
_REACH_A = 4.0


def alternating_signs(atoms: Atoms, is_magnetic: np.ndarray) -> IntArray:
    """Return (N,) 1 or -1 for magnetic atoms, such that neighbours differ as far as they can; 1 elsewhere.

    Bonds are straight bridges through one other atom (superexchange, as Ni-O-Ni), or, where there are none, nearest
    magnetic neighbours. The signs are those of the bond matrix' lowest eigenvector, improved by single flips.

    Parameters
    ----------
    atoms
        Fully periodic structure.
    is_magnetic
        (N,) bool.
    """
    signs = np.ones(len(atoms), dtype=np.int32)
    magnetic = np.flatnonzero(is_magnetic)
    if len(magnetic) < 2:
        return signs
    bonds = _bridges(atoms, is_magnetic)
    if not bonds.any():
        bonds = _contacts(atoms, is_magnetic)
    bonds = bonds[np.ix_(magnetic, magnetic)]
    np.fill_diagonal(bonds, 0.0)
    # The small slope makes one of several equally good patterns the first in the order of the atoms.
    _, vectors = np.linalg.eigh(bonds + np.diag(1e-6 * np.arange(len(magnetic))))
    pattern = np.where(vectors[:, 0] >= 0, 1, -1)
    for _ in range(10 * len(magnetic)):
        cost = pattern * (bonds @ pattern)
        worst = int(np.argmax(cost))
        if cost[worst] <= 0:
            break
        pattern[worst] *= -1
    signs[magnetic] = pattern * pattern[0]
    return signs


def _bridges(atoms: Atoms, is_magnetic: np.ndarray) -> FloatArray:
    """Return (N, N) number of straight bridges through a non-magnetic atom."""
    first, second, vectors, distances = _pairs(atoms)
    bonds = np.zeros((len(atoms), len(atoms)))
    arms = ~is_magnetic[first] & is_magnetic[second]
    if not arms.any():
        return bonds
    arms &= distances < _SHELL * distances[arms].min()
    for centre in np.unique(first[arms]):
        ends = np.flatnonzero(arms & (first == centre))
        directions = vectors[ends] / distances[ends, None]
        for a, b in zip(*np.nonzero(np.triu(directions @ directions.T < _STRAIGHT)), strict=True):
            i, j = second[ends[a]], second[ends[b]]
            bonds[i, j] += 1
            bonds[j, i] += 1
    return bonds


def _contacts(atoms: Atoms, is_magnetic: np.ndarray) -> FloatArray:
    """Return (N, N) number of contacts of nearest magnetic neighbours."""
    first, second, _, distances = _pairs(atoms)
    both = is_magnetic[first] & is_magnetic[second]
    bonds = np.zeros((len(atoms), len(atoms)))
    if both.any():
        near = both & (distances < 1.1 * distances[both].min())
        np.add.at(bonds, (first[near], second[near]), 1.0)
    return bonds


def _pairs(atoms: Atoms) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    builder = NeighborList(cutoff=_REACH_A, full_list=True, n_threads=1)
    first, second, vectors, distances = builder.compute(atoms.positions, atoms.cell[:], True, "ijDd")
    return first, second, vectors, distances
