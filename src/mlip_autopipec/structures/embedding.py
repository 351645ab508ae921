"""Periodic embedding: the neighbourhood of one atom of a large frame as a small periodic cell that DFT can afford."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.structures.collisions import COLLISION_FRACTION, Contact, find_contacts, resolve, usual_distances
from mlip_autopipec.structures.window import (
    TOLERANCE_A,
    FloatArray,
    IndexArray,
    Parent,
    Window,
    choose_window,
    complete_parent,
    images_within,
    select,
)

MODES: Final = ("box", "sphere")
# Nearest neighbours are looked for this far (A) around the window, however small it is: more than any bond length.
_MARGIN_A: Final = 5.0


@dataclass(frozen=True)
class Removal:
    """An atom left out because it would collide across the new boundary.

    Attributes
    ----------
    parent_index : the atom that was removed
    collided_with : parent index of the atom that it came too near to
    distance : between the two across the new boundary, A
    """

    parent_index: int
    collided_with: int
    distance: float


@dataclass(frozen=True)
class Carved:
    """A small periodic cell around one atom of its parent.

    Attributes
    ----------
    atoms : N atoms in the order of the parent, with the array `force_mask` (N,): 1 learned, 0 masked
    center : index of the centre atom in `atoms`; it sits at the cell's centre
    parent_indices : (N,) index of each atom in the parent
    removed : atoms left out because they would collide across the new boundary
    warnings : what the user should know about this cell
    """

    atoms: Atoms
    center: int
    parent_indices: IndexArray
    removed: tuple[Removal, ...]
    warnings: tuple[str, ...]

    @property
    def force_mask(self) -> NDArray[np.int64]:
        """(N,): 1 learned, 0 masked."""
        return np.asarray(self.atoms.arrays["force_mask"])


def extract_periodic_subsystem(
    atoms: Atoms,
    center_index: int,
    cutoff: float,
    buffer_size: float,
    mode: str = "box",
    *,
    collision_distance: float | None = None,
    potential_cutoff: float | None = None,
) -> Carved:
    """Cut the neighbourhood of one atom out of a frame and make it periodic.

    The cell has edges ``2 * (cutoff + buffer_size)``, except where the parent's own period is smaller and kept. Atoms
    nearer to the centre than `cutoff` are learned, the others masked.

    Parameters
    ----------
    atoms
        The parent: (N, 3) positions in A, any cell and periodicity; atoms may lie outside the cell.
    center_index
        The atom in the middle, 0 <= center_index < N.
    cutoff, buffer_size
        Radius of the learned core and thickness of the masked shell around it, A.
    mode
        `box`: every atom inside the cell. `sphere`: only those nearer to the centre than ``cutoff + buffer_size``.
    collision_distance
        Pairs nearer than this (A) across the new boundary collide, and the outer atom is removed. Default: for each
        pair of elements 0.8 of the usual nearest distance around the centre (`collisions.usual_distances`).
    potential_cutoff
        The potential's cutoff, A; a warning is given if the cell is too small for it.

    Raises
    ------
    DataError
        An argument is out of range, a position is not finite, or the parent's periods span no lattice.
    """
    _check(atoms, center_index, cutoff, buffer_size, mode, collision_distance)
    radius = float(cutoff + buffer_size)
    parent = complete_parent(np.asarray(atoms.cell), atoms.pbc)
    offsets = atoms.get_positions() - atoms.positions[center_index]
    window = choose_window(parent, offsets, 2.0 * radius)
    indices, vectors, distances = select(parent, window, offsets)
    if mode == "sphere":
        near = distances < radius - TOLERANCE_A
        indices, vectors, distances = indices[near], vectors[near], distances[near]

    if collision_distance is None:
        limits = _default_limits(atoms, parent, offsets, indices, vectors, max(radius, _MARGIN_A))
    else:
        limits = np.full((len(indices), len(indices)), float(collision_distance))
    contacts = find_contacts(vectors, window.cell, window.pbc, limits, window.pbc & ~window.kept)
    collisions = resolve(contacts, vectors, distances)
    learned = distances < cutoff - TOLERANCE_A
    warnings = _warnings(radius, potential_cutoff, contacts, collisions, learned, indices)
    stays = np.ones(len(indices), dtype=bool)
    stays[[c.outer for c in collisions]] = False
    removed = [Removal(int(indices[c.outer]), int(indices[c.inner]), float(c.distance)) for c in collisions]
    return Carved(
        atoms=_build(atoms, window, indices[stays], vectors[stays], learned[stays]),
        center=int(np.searchsorted(indices[stays], center_index)),
        parent_indices=indices[stays],
        removed=tuple(sorted(removed, key=lambda r: r.parent_index)),
        warnings=tuple(warnings),
    )


def _check(
    atoms: Atoms, center_index: int, cutoff: float, buffer_size: float, mode: str, collision_distance: float | None
) -> None:
    if not 0 <= center_index < len(atoms):
        raise DataError(
            f"center_index: {center_index} is no atom of a structure of {len(atoms)}",
            f"give an index from 0 to {len(atoms) - 1}",
        )
    if not (np.isfinite(cutoff) and cutoff > 0.0):
        raise DataError(f"embedding.cutoff: {cutoff} is no positive length", "give the core's radius in A, e.g. 4.0")
    if not (np.isfinite(buffer_size) and buffer_size >= 0.0):
        raise DataError(
            f"embedding.buffer_size: {buffer_size} is negative or not finite", "give the shell's thickness in A"
        )
    if mode not in MODES:
        raise DataError(f"embedding.mode: {mode!r} is unknown", f"use one of: {', '.join(MODES)}")
    if collision_distance is not None and not (np.isfinite(collision_distance) and collision_distance >= 0.0):
        raise DataError(
            f"embedding.collision_distance: {collision_distance} is no length",
            "give A, or leave it out",
        )
    if not np.isfinite(atoms.positions).all():
        lost = int(np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))[0])
        raise DataError(f"positions: atom {lost} has a coordinate that is not finite", "carve an earlier frame")


def _default_limits(
    atoms: Atoms, parent: Parent, offsets: FloatArray, indices: IndexArray, vectors: FloatArray, margin: float
) -> FloatArray:
    """Return (N, N), A: how near each pair of the window's atoms may come across the new boundary."""
    planes = np.abs(parent.coordinates(vectors)) * parent.heights
    around_indices, around = images_within(parent, offsets, planes.max(axis=0) + margin)
    numbers = atoms.numbers
    usual = usual_distances(numbers[indices], vectors, numbers[around_indices], around)
    elements, kind = np.unique(numbers[indices], return_inverse=True)
    table = np.array([[usual.get((int(a), int(b)), 0.0) for b in elements] for a in elements])
    return np.asarray(COLLISION_FRACTION * table[np.ix_(kind, kind)])


def _warnings(
    radius: float,
    potential_cutoff: float | None,
    contacts: tuple[IndexArray, IndexArray, FloatArray],
    collisions: list[Contact],
    learned: NDArray[np.bool_],
    indices: IndexArray,
) -> list[str]:
    found = []
    if potential_cutoff is not None and radius < potential_cutoff:
        found.append(
            f"embedding: cutoff + buffer_size = {radius:g} A is below the potential's cutoff {potential_cutoff:g} A: "
            "the core atoms do not see the parent's surroundings; enlarge buffer_size"
        )
    first, second, distances = contacts
    own_image = distances[first == second]
    if len(own_image):
        found.append(
            f"embedding: atoms are {own_image.min():.3g} A from their own images, nearer than a collision; "
            "enlarge cutoff or buffer_size"
        )
    lost = [int(indices[c.outer]) for c in collisions if learned[c.outer]]
    if lost:
        found.append(
            f"embedding: atoms {lost} of the core collide across the new boundary and were removed; enlarge buffer_size"
        )
    return found


def _build(atoms: Atoms, window: Window, indices: IndexArray, vectors: FloatArray, learned: NDArray[np.bool_]) -> Atoms:
    """Return the carved cell with the centre atom (the origin of `vectors`) in its middle."""
    carved = Atoms(
        numbers=atoms.numbers[indices],
        positions=vectors + 0.5 * window.cell.sum(axis=0),
        cell=window.cell,
        pbc=window.pbc,
    )
    carved.set_array("force_mask", learned.astype(np.int64))
    return carved
