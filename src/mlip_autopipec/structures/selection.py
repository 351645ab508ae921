"""Selection: which atoms of the parent lie in a window, molecules as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlip_autopipec.structures.units import Units
from mlip_autopipec.structures.window import (
    TOLERANCE_A,
    FloatArray,
    IndexArray,
    Parent,
    Window,
    distances_to_centre,
    images_within,
    select,
)


@dataclass(frozen=True)
class Selected:
    """The window's atoms.

    Attributes
    ----------
    indices : (M,) ascending
    vectors : (M, 3) A, from the centre atom
    distances : (M,) A, to the centre atom by the nearest image
    core : (M,) True for those nearer than the core's radius
    """

    indices: IndexArray
    vectors: FloatArray
    distances: FloatArray
    core: NDArray[np.bool_]


def select_atoms(
    parent: Parent,
    window: Window,
    offsets: FloatArray,
    units: Units,
    cutoff: float,
    radius: float | None,
    middle: FloatArray | None = None,
) -> Selected:
    """Find the atoms of all units whose reference point lies in the window.

    The reference point of a molecule is its middle, so that windows side by side hold every molecule once; but a
    molecule that reaches into the core is always in.

    Parameters
    ----------
    offsets : (N, 3) positions relative to the centre atom, A
    cutoff : radius of the core, A
    radius : A; reference points farther from the centre are left out; None takes the whole window
    middle : (3,) A, of the window, relative to the centre; default: zero
    """
    move = np.zeros(3) if middle is None else middle
    names, points, to_first = _reference_points(parent, offsets, units, cutoff)
    found, place = select(parent, window, points - move)
    place = place + move
    if radius is not None:
        near = distances_to_centre(parent, window, place) < radius - TOLERANCE_A
        found, place = found[near], place[near]
    first = np.full(len(offsets), -1)
    first[names[found]] = np.arange(len(found))
    row = first[units.of_atom]
    indices = np.flatnonzero(row >= 0)
    row = row[indices]
    vectors = place[row] + to_first[found][row] + units.vectors[indices]
    distances = distances_to_centre(parent, window, vectors)
    return Selected(indices, vectors, distances, distances < cutoff - TOLERANCE_A)


def _reference_points(
    parent: Parent, offsets: FloatArray, units: Units, cutoff: float
) -> tuple[IndexArray, FloatArray, FloatArray]:
    """Return the units, their reference points relative to the centre, and the vectors from there to the first atom."""
    names, unit, sizes = np.unique(units.of_atom, return_inverse=True, return_counts=True)
    if units.are_atoms:
        return names, offsets, np.zeros_like(offsets)
    middles = np.zeros((len(names), 3))
    np.add.at(middles, unit, units.vectors)
    middles /= sizes[:, None]
    points, to_first = offsets[names] + middles, -middles
    atoms, vectors = images_within(parent, offsets, np.full(3, cutoff))
    distances = np.linalg.norm(vectors, axis=1)
    core = np.flatnonzero(distances < cutoff)
    for image in core[np.argsort(distances[core])[::-1]]:  # the nearest one comes last, and stays
        member = atoms[image]
        points[unit[member]], to_first[unit[member]] = vectors[image], -units.vectors[member]
    return names, points, to_first
