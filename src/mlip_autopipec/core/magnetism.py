"""Where a magnetic SCF starts: which elements have moments, and signs that oppose each other across magnetic bonds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, ground_state_magnetic_moments
from vesin import NeighborList

from mlip_autopipec.core.interfaces import FloatArray, IntArray

# Elements whose moments survive in solids and decide forces and energies.
MAGNETIC: Final = ("Cr", "Mn", "Fe", "Co", "Ni")
_SHELL = 1.25
_STRAIGHT = -0.85  # cosine of the angle of a superexchange bridge, 148 degrees and more
_REACH_A = 4.0


def starting_moments(
    atoms: Atoms, given: Mapping[str, float], order: Literal["ferro", "antiferro"], *, every_element: bool = False
) -> FloatArray:
    """Return (N,) the moments that an SCF with spin begins with, Bohr magnetons.

    Parameters
    ----------
    atoms
        Fully periodic structure.
    given
        Moment of each element; without one: the free atom's for magnetic elements, else 0.
    order
        antiferro: signs as `alternating_signs` finds them.
    every_element
        Give elements that are not magnetic in solids their free atom's moment too.
    """
    moments = np.array([_moment(symbol, given, every_element) for symbol in atoms.get_chemical_symbols()])
    return moments * alternating_signs(atoms, moments != 0) if order == "antiferro" else moments


def _moment(symbol: str, given: Mapping[str, float], every_element: bool) -> float:
    if symbol in given:
        return float(given[symbol])
    if symbol in MAGNETIC or every_element:
        return float(ground_state_magnetic_moments[atomic_numbers[symbol]])
    return 0.0


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
