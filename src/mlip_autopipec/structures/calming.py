"""Calming a seam: atoms that came near across the new boundary are moved apart a little, by a repulsion alone.

No potential is asked: at a seam gamma is in the hundreds, and what it says there is noise.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from vesin import NeighborList

from mlip_autopipec.structures.window import FloatArray, IndexArray

MOST_A: Final = 0.3
"""No atom is ever moved farther than this, A: the environment stays what the parent has."""
_SWEEPS: Final = 60


def calm(
    vectors: FloatArray,
    cell: FloatArray,
    pbc: NDArray[np.bool_],
    limits: FloatArray,
    is_new: NDArray[np.bool_],
    movable: NDArray[np.bool_],
    units: IndexArray,
    most: float,
) -> FloatArray:
    """Move units apart whose atoms are nearer than their limit.

    Every sweep resolves each contact half-way, as a steepest descent on ``sum (limit - d)^2 / 2`` would.

    Parameters
    ----------
    vectors : (N, 3) A
    cell, pbc : (3, 3) A, (3,)
    limits : (N, N) A; nearer pairs across the new boundary are moved apart. Other pairs are as near as they were.
    is_new : (3,) directions in which the cell's period is a new boundary
    movable : (N,) atoms that may move; a unit moves only if all of its atoms may
    units : (N,) unit of each atom; units move rigidly
    most : A, largest move of an atom from where it was

    Returns
    -------
    (N, 3) the new vectors, A
    """
    _, unit = np.unique(units, return_inverse=True)
    n_units = int(unit.max(initial=-1)) + 1
    free = np.ones(n_units, dtype=bool)
    free[unit[~movable]] = False
    if most <= 0.0 or not free.any() or limits.max(initial=0.0) <= 0.0:
        return vectors
    move = np.zeros((n_units, 3))
    pairs = NeighborList(cutoff=float(limits.max()), full_list=False)
    for _ in range(_SWEEPS):
        place = vectors + move[unit]
        first, second, between, distances, shifts = pairs.compute(place, cell, pbc, "ijDdS")
        first, second = first.astype(np.int64), second.astype(np.int64)
        before = np.linalg.norm(between - move[unit[second]] + move[unit[first]], axis=1)
        wanted = limits[first, second]
        across = np.any((shifts != 0) & is_new, axis=1)
        missing = np.where(across, wanted, np.minimum(wanted, before)) - distances
        close = (missing > 1e-3) & (unit[first] != unit[second]) & (free[unit[first]] | free[unit[second]])
        if not close.any():
            break
        i, j = unit[first[close]], unit[second[close]]
        push = 0.5 * (missing[close] / np.maximum(distances[close], 1e-9))[:, None] * between[close]
        step, touched = np.zeros((n_units, 3)), np.zeros(n_units)
        for atoms, sign in ((i, -1.0), (j, 1.0)):
            np.add.at(step, atoms, sign * push)
            np.add.at(touched, atoms, 1.0)
        # Averaged over contacts: a unit squeezed from all sides must not be thrown out.
        move[free] += (step / np.maximum(touched, 1.0)[:, None])[free]
        length = np.linalg.norm(move, axis=1)
        move *= np.minimum(1.0, most / np.maximum(length, 1e-12))[:, None]
    return np.asarray(vectors + move[unit])
