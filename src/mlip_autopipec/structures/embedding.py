"""Periodic embedding: the neighbourhood of one atom of a large frame as a small periodic cell that DFT can afford."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.structures.calming import MOST_A
from mlip_autopipec.structures.collisions import COLLISION_FRACTION, pair_table, usual_distances
from mlip_autopipec.structures.neutrality import surplus_atoms
from mlip_autopipec.structures.seam import Seam, mend
from mlip_autopipec.structures.selection import Selected, select_atoms
from mlip_autopipec.structures.snapping import between_planes, repeats, snapped
from mlip_autopipec.structures.units import Units, find_units, single_atoms
from mlip_autopipec.structures.window import (
    FloatArray,
    IndexArray,
    Parent,
    Window,
    choose_window,
    complete_parent,
    dodecahedron,
    images_within,
    parallelepiped,
    whole_window,
)

MODES: Final = ("dodecahedron", "box", "sphere", "snap", "cell")
# Nearest neighbours are looked for this far (A) around the window, however small it is: more than any bond length.
_MARGIN_A: Final = 5.0


@dataclass(frozen=True)
class Removal:
    """An atom of the window that was left out of the cell.

    Attributes
    ----------
    parent_index : the atom that was removed
    reason : `collision` across the new boundary, or `neutrality`
    collided_with : parent index of the atom that it, or its molecule, came too near to
    distance : between the two across the new boundary, A
    """

    parent_index: int
    reason: Literal["collision", "neutrality"] = "collision"
    collided_with: int | None = None
    distance: float | None = None


@dataclass(frozen=True)
class Carved:
    """A small periodic cell around one atom of its parent.

    Attributes
    ----------
    atoms : N atoms in the order of the parent, with the array `force_mask` (N,): 1 learned, 0 masked
    center : index of the centre atom in `atoms`; it sits at the cell's centre
    parent_indices : (N,) index of each atom in the parent
    core : (N,) True for atoms nearer to the centre than `cutoff`, whatever is learned
    removed : atoms of the window that were left out
    contacts : pairs that were too near across the new boundary, before anything was done about it
    largest_move : of any atom, to calm the seam, A
    warnings : what the user should know about this cell
    """

    atoms: Atoms
    center: int
    parent_indices: IndexArray
    core: NDArray[np.bool_]
    removed: tuple[Removal, ...]
    contacts: int
    largest_move: float
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
    whole_molecules: bool = True,
    neutral: bool = True,
    oxidation_states: Mapping[str, float] | None = None,
    seam_move: float = 0.0,
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
        `dodecahedron`: every atom of a rhombic dodecahedron with ``2 * (cutoff + buffer_size)`` between its faces;
        where it does not fit, as `box`. `box`: every atom of the cube. `sphere`: of its atoms only those nearer to the
        centre than ``cutoff + buffer_size``. `snap`: a box along the parent's directions whose edges are the next
        larger multiples of the crystal's own repeats (`snapping.repeats`); without repeats, as `box`. `cell`: the
        whole parent, every atom learned.
    collision_distance
        Pairs nearer than this (A) across the new boundary collide, and the outer atom is removed. Default: for each
        pair of elements 0.8 of the usual nearest distance around the centre (`collisions.usual_distances`).
    potential_cutoff
        The potential's cutoff, A; a warning is given if the cell is too small for it.
    whole_molecules
        Molecules (`units.find_units`) are in the cell, or left out, as a whole.
    neutral
        Where the elements differ much in electronegativity (`neutrality.is_ionic`) or `oxidation_states` are given,
        the outermost surplus ions are left out.
    oxidation_states
        Charge (e) by element; the cell's sum is made zero. Without: the cell keeps the parent's formula.
    seam_move
        Atoms outside the core may be moved so far, A, to calm the seam (0 to 0.3).

    Raises
    ------
    DataError
        An argument is out of range, a position is not finite, the parent's periods span no lattice, or the cell
        cannot be made neutral.
    """
    _check(atoms, center_index, cutoff, buffer_size, mode, collision_distance, seam_move)
    radius = float(cutoff + buffer_size)
    parent = complete_parent(np.asarray(atoms.cell), atoms.pbc)
    offsets = atoms.get_positions() - atoms.positions[center_index]
    units = find_units(parent, atoms.numbers, offsets) if whole_molecules else single_atoms(len(atoms))
    window, middle = _window(parent, atoms.numbers, offsets, float(cutoff), radius, mode)
    found = select_atoms(parent, window, offsets, units, cutoff, radius if mode == "sphere" else None, middle)
    unit = units.of_atom[found.indices]
    seam = mend(
        found.vectors,
        window,
        _limits(atoms, parent, offsets, found, units, max(radius, _MARGIN_A), collision_distance),
        units=unit,
        distances=found.distances,
        frozen=found.core,
        most=seam_move,
    )
    stays = seam.stays.copy()
    warnings = _warnings(radius, potential_cutoff, seam, found, units) if mode != "cell" else []
    if neutral and mode != "cell":
        here = np.flatnonzero(stays)
        surplus, told = surplus_atoms(
            atoms.numbers, units, found.indices[here], found.distances[here], found.core[here], oxidation_states
        )
        stays[here[surplus]] = False
        warnings += told
    at = found.indices
    collided = {c.outer: Removal(int(at[c.outer]), "collision", int(at[c.inner]), c.distance) for c in seam.removed}
    removed = [collided.get(i, Removal(int(at[i]), "neutrality")) for i in np.flatnonzero(~stays).tolist()]
    learned = np.ones(len(at), dtype=bool) if mode == "cell" else found.core
    return Carved(
        atoms=_build(atoms, window, at[stays], seam.vectors[stays], learned[stays]),
        center=int(np.searchsorted(at[stays], center_index)),
        parent_indices=at[stays],
        core=found.core[stays],
        removed=tuple(removed),
        contacts=len(seam.contacts[0]),
        largest_move=float(np.linalg.norm((seam.vectors - found.vectors)[stays], axis=1).max(initial=0.0)),
        warnings=tuple(warnings),
    )


def _check(
    atoms: Atoms,
    center_index: int,
    cutoff: float,
    buffer_size: float,
    mode: str,
    collision_distance: float | None,
    seam_move: float,
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
    if not 0.0 <= seam_move <= MOST_A:
        raise DataError(f"embedding.seam_move: {seam_move} is not between 0 and {MOST_A} A", "0 moves nothing")
    if not np.isfinite(atoms.positions).all():
        lost = int(np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))[0])
        raise DataError(f"positions: atom {lost} has a coordinate that is not finite", "carve an earlier frame")


def _window(
    parent: Parent, numbers: IndexArray, offsets: FloatArray, cutoff: float, radius: float, mode: str
) -> tuple[Window, FloatArray]:
    """Return the window, and where its middle is relative to the centre, A."""
    centred = np.zeros(3)
    if mode == "cell":
        return whole_window(parent, offsets), centred
    if mode == "snap":
        counts = repeats(parent, numbers, offsets)
        if (counts > 1).any():
            # The move of the faces must not cut the core.
            edge = 2.0 * max(radius, cutoff + 0.25 * float((parent.heights / counts)[counts > 1].max()))
            edges = snapped(parent, counts, edge)
            return parallelepiped(parent, offsets, edges), between_planes(parent, counts, edges, offsets)
    if mode == "dodecahedron":
        return dodecahedron(parent, offsets, 2.0 * radius), centred
    return choose_window(parent, offsets, 2.0 * radius), centred


def _limits(
    atoms: Atoms,
    parent: Parent,
    offsets: FloatArray,
    found: Selected,
    units: Units,
    margin: float,
    collision_distance: float | None,
) -> FloatArray:
    """Return (N, N), A: how near each pair of the window's atoms may come across the new boundary."""
    if collision_distance is not None:
        return np.full((len(found.indices), len(found.indices)), float(collision_distance))
    planes = np.abs(parent.coordinates(found.vectors)) * parent.heights
    around_indices, around = images_within(parent, offsets, planes.max(axis=0) + margin)
    numbers = atoms.numbers
    groups = None if units.are_atoms else (units.of_atom[found.indices], units.of_atom[around_indices])
    usual = usual_distances(numbers[found.indices], found.vectors, numbers[around_indices], around, groups)
    return COLLISION_FRACTION * pair_table(numbers[found.indices], usual)


def _warnings(radius: float, potential_cutoff: float | None, seam: Seam, found: Selected, units: Units) -> list[str]:
    warnings = []
    if potential_cutoff is not None and radius < potential_cutoff:
        warnings.append(
            f"embedding: cutoff + buffer_size = {radius:g} A is below the potential's cutoff {potential_cutoff:g} A: "
            "the core atoms do not see the parent's surroundings; enlarge buffer_size"
        )
    first, second, distances = seam.contacts
    own_image = distances[first == second]
    if len(own_image):
        warnings.append(
            f"embedding: atoms are {own_image.min():.3g} A from their own images, nearer than a collision; "
            "enlarge cutoff or buffer_size"
        )
    lost = [int(i) for i in found.indices[found.core & ~seam.stays]]
    if lost:
        warnings.append(
            f"embedding: atoms {lost} of the core collide across the new boundary and were removed; enlarge buffer_size"
        )
    if np.isin(found.indices, units.networks).any() and not np.isin(units.networks, found.indices).all():
        warnings.append("embedding: bonds of a network or long chain are cut, since no small cell holds it whole")
    return warnings


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
