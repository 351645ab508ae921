"""Snapping: how often a crystal repeats along its parent's directions, and window edges that fit these repeats.

A window whose edge is a multiple of the crystal's own period has a seam like the crystal itself: no gap, no collision.
Defects and thermal motion do not matter, since most atoms need only find a partner nearby after the shift.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.spatial import cKDTree

from mlip_autopipec.structures.neutrality import is_ionic
from mlip_autopipec.structures.window import FloatArray, IndexArray, Parent

# Three of four atoms must land on a partner: defects, and their surroundings, are the rest.
_SHARE: Final = 0.75
# Nearer than this share of the distance between nearest neighbours is "on" it. In a hot crystal (Lindemann:
# displacements of 0.1 of that distance) two displacements differ by 0.24; a liquid's atoms find a partner at 0.5.
_TOLERANCE: Final = 0.3
_ASKED: Final = 300
# No lattice plane repeats closer than this, A.
_SMALLEST_REPEAT_A: Final = 1.2


def repeats(parent: Parent, numbers: IndexArray, positions: FloatArray) -> IndexArray:
    """Count how often the structure repeats along each of the parent's directions.

    In a random alloy, where no shift brings every atom to one of its element, the lattice alone is asked; in an ionic
    crystal it never is, since ions of one sign would meet at the seam.

    Parameters
    ----------
    numbers, positions : (N,), (N, 3) A

    Returns
    -------
    (3,) the largest n for which a shift by 1/n of the period is, nearly, a symmetry; 1 if there is none or no period
    """
    found = np.ones(3, dtype=np.int64)
    if not parent.periodic.all() or len(numbers) < 2:
        return found
    coordinates = parent.coordinates(positions) % 1.0
    coordinates[coordinates >= 1.0] = 0.0
    found = _repeats(parent, numbers, coordinates)
    if (found == 1).all() and len(np.unique(numbers)) > 1 and not is_ionic(numbers):
        found = _repeats(parent, np.zeros_like(numbers), coordinates)
    return found


def _repeats(parent: Parent, kinds: IndexArray, coordinates: FloatArray) -> IndexArray:
    # Some atoms tell it as well as all of them.
    some = np.unique(np.linspace(0, len(kinds) - 1, min(len(kinds), _ASKED)).astype(int))
    trees = {int(z): _Images(parent, coordinates[kinds == z]) for z in np.unique(kinds[some])}
    limit = _TOLERANCE * float(np.median(_Images(parent, coordinates).nearest(coordinates[some], rank=2)))
    found = np.ones(3, dtype=np.int64)
    for axis in range(3):
        for n in range(int(parent.heights[axis] / _SMALLEST_REPEAT_A), 1, -1):
            # One repeat, and half of all: a wrong n may be nearly right once, but then it is half a repeat off.
            shifts = [np.eye(3)[axis] * k / n for k in {1, n // 2}]
            missed = [
                np.concatenate([tree.nearest(coordinates[some][kinds[some] == z] + by) for z, tree in trees.items()])
                for by in shifts
            ]
            if max(float(np.quantile(distances, _SHARE)) for distances in missed) < limit:
                found[axis] = n
                break
    return found


def snapped(parent: Parent, counts: IndexArray, edge: float) -> FloatArray:
    """Return (3,) edges, A: the smallest multiples of the repeats that are not below `edge`; `edge` without repeats.

    Parameters
    ----------
    counts : (3,) as `repeats` finds them
    """
    repeat = parent.heights / counts
    multiples = np.ceil(edge / repeat - 1e-6) * repeat
    return np.asarray(np.where((counts > 1) & parent.periodic, multiples, edge))


def between_planes(parent: Parent, counts: IndexArray, edges: FloatArray, offsets: FloatArray) -> FloatArray:
    """Return the (3,) vector, A, by which the window must be moved so that its faces lie between lattice planes.

    Otherwise atoms of a plane that lies on a face would, by their thermal motion, be in twice or not at all.

    Parameters
    ----------
    edges : (3,) A, multiples of the repeats
    offsets : (N, 3) A, from the window's middle
    """
    heights = parent.coordinates(offsets) * parent.heights
    move = np.zeros(3)
    for axis in np.flatnonzero((counts > 1) & parent.periodic & (edges < parent.heights - 1e-6)):
        repeat = float(parent.heights[axis] / counts[axis])
        planes = np.sort((heights[:, axis] + 0.5 * edges[axis]) % repeat)
        gaps = np.diff(planes, append=planes[0] + repeat)
        # Of the gaps that are wide, that one whose middle is nearest: the centre stays in the middle.
        middles = (planes + 0.5 * gaps + 0.5 * repeat) % repeat - 0.5 * repeat
        wide = gaps > 0.7 * gaps.max()
        move[axis] = middles[wide][np.argmin(np.abs(middles[wide]))]
    return np.asarray((move / parent.heights) @ parent.basis)


class _Images:
    """Points of a periodic structure with their images nearby, for nearest-neighbour questions."""

    def __init__(self, parent: Parent, coordinates: FloatArray) -> None:
        self._parent = parent
        # Half a period on each side: no partner that matters is farther away than the structure is thick.
        margin = np.minimum(0.5, 4.0 / parent.heights)
        images = coordinates
        for axis in range(3):
            low = images[images[:, axis] < margin[axis]]
            high = images[images[:, axis] >= 1.0 - margin[axis]]
            step = np.eye(3)[axis]
            images = np.vstack([images, low + step, high - step])
        self._tree = cKDTree(images @ parent.basis)

    def nearest(self, coordinates: FloatArray, rank: int = 1) -> FloatArray:
        """Return (N,) A, the distance of each point to the nearest one, or to the `rank`-th nearest."""
        distances, _ = self._tree.query((coordinates % 1.0) @ self._parent.basis, k=[rank])
        return np.asarray(distances, dtype=float)[:, 0]
