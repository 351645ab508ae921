"""The seam of a carved cell: whatever comes too near across the new boundary is moved apart, or removed as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlip_autopipec.structures.calming import calm
from mlip_autopipec.structures.collisions import COLLISION_FRACTION, Contact, find_contacts, resolve
from mlip_autopipec.structures.window import FloatArray, IndexArray, Window

# Calming aims a little beyond what would be a collision, so that the seam is no worse than a liquid's closest pairs.
_CALM_FRACTION = 0.9
IndexTriple = tuple[IndexArray, IndexArray, FloatArray]


@dataclass(frozen=True)
class Seam:
    """What became of the seam.

    Attributes
    ----------
    vectors : (N, 3) A, where the window's atoms are now
    stays : (N,) False for atoms that were removed
    removed : what each of them collided with; indices into the window's atoms
    contacts : (first, second, distance) of all pairs that were too near before anything was done
    """

    vectors: FloatArray
    stays: NDArray[np.bool_]
    removed: tuple[Contact, ...]
    contacts: IndexTriple


def mend(
    vectors: FloatArray,
    window: Window,
    limits: FloatArray,
    *,
    units: IndexArray,
    distances: FloatArray,
    frozen: NDArray[np.bool_],
    most: float,
) -> Seam:
    """Resolve the collisions across the new boundary.

    Parameters
    ----------
    vectors : (N, 3) A, from the centre
    limits : (N, N) A, nearer is a collision
    units : (N,) what goes, or moves, as a whole
    distances : (N,) A, from the centre: of two that collide the outer one goes
    frozen : (N,) atoms that may not move (they may still be the outer one of a collision)
    most : A, largest move; 0 moves nothing
    """
    is_new = window.pbc & ~window.kept
    stays = np.ones(len(vectors), dtype=bool)
    removed: list[Contact] = []
    contacts = find_contacts(vectors, window.cell, window.pbc, limits, is_new)
    first_contacts, place = contacts, vectors
    soft = limits * (_CALM_FRACTION / COLLISION_FRACTION)
    while True:
        here = np.flatnonzero(stays)
        if most > 0.0:
            place = vectors.copy()
            cut = np.ix_(here, here)
            place[here] = calm(
                vectors[here], window.cell, window.pbc, soft[cut], is_new, ~frozen[here], units[here], most
            )
        contacts = find_contacts(place[here], window.cell, window.pbc, limits[np.ix_(here, here)], is_new)
        met = resolve(contacts, place[here], distances[here], units[here])
        if not met:
            return Seam(place, stays, tuple(removed), first_contacts)
        removed += [Contact(int(here[c.outer]), int(here[c.inner]), c.distance) for c in met]
        stays[here[[c.outer for c in met]]] = False
