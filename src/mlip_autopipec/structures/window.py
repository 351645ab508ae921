"""The window: the small cell that is cut out of a parent structure around one atom, and the atoms that lie in it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from mlip_autopipec.core.errors import DataError

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IndexArray = NDArray[np.int64]

# Lengths (A) closer than this are equal: far above rounding noise of coordinates, far below any physics. Without it a
# perfect grid would gain or lose an atomic layer at the window's faces by noise.
TOLERANCE_A = 1e-8


@dataclass(frozen=True)
class Parent:
    """A parent structure's lattice, completed to three independent directions.

    Attributes
    ----------
    basis : (3, 3), A; rows are the period (periodic directions) or a unit vector normal to all others (open directions)
    periodic : (3,) which directions have a period
    heights : (3,) A; distance between the lattice planes of a direction; 1 for open directions
    """

    basis: FloatArray
    periodic: BoolArray
    heights: FloatArray

    def coordinates(self, vectors: FloatArray) -> FloatArray:
        """Return (N, 3) coordinates of `vectors` (N, 3): multiples of the periods, A along open directions."""
        return np.asarray(vectors @ np.linalg.inv(self.basis))


@dataclass(frozen=True)
class Window:
    """The cell to be cut.

    Attributes
    ----------
    cell : (3, 3), A
    pbc : (3,)
    kept : (3,) directions in which the parent's own period is kept
    faces : (F, 3), A; for a body with faces around the centre (cube, dodecahedron) the vectors between opposite faces,
        one of each pair; None for a parallelepiped along the parent's directions
    edges : (3,) A, between the body's faces, or the parallelepiped's heights in the directions that are cut
    """

    cell: FloatArray
    pbc: BoolArray
    kept: BoolArray
    faces: FloatArray | None
    edges: FloatArray


def complete_parent(cell: FloatArray, pbc: BoolArray) -> Parent:
    """Give every direction of a parent a basis vector, whatever its cell has in the open ones.

    Raises
    ------
    DataError
        The periodic directions do not span a lattice.
    """
    periodic = np.asarray(pbc, dtype=bool)
    if not periodic.any():
        return Parent(np.eye(3), periodic, np.ones(3))
    basis = np.array(cell, dtype=float)
    periods = basis[periodic]
    lengths = np.linalg.norm(periods, axis=1)
    singular = np.linalg.svd(periods, compute_uv=False)
    if lengths.min() < TOLERANCE_A or singular[-1] < 1e-6 * singular[0]:
        raise DataError(f"cell: its periodic directions {pbc.tolist()} are zero or parallel", "correct the cell or pbc")
    taken = list(np.linalg.svd(periods, full_matrices=False)[2])
    for row in np.flatnonzero(~periodic):
        basis[row] = _normal_to(taken, [basis[row], np.eye(3)[row], *np.eye(3)])
        taken.append(basis[row])
    heights = 1.0 / np.linalg.norm(np.linalg.inv(basis), axis=0)
    return Parent(basis, periodic, heights)


def _normal_to(taken: list[FloatArray], candidates: list[FloatArray]) -> FloatArray:
    """Return the unit vector orthogonal to the orthonormal `taken` that lies nearest to the first usable candidate."""
    for candidate in candidates:
        rest = candidate - sum((candidate @ t) * t for t in taken)
        length = float(np.linalg.norm(rest))
        if length > 1e-3 * max(1.0, float(np.linalg.norm(candidate))):
            return np.asarray(rest / length)
    raise DataError("cell: has no independent directions", "correct the cell")


def choose_window(parent: Parent, offsets: FloatArray, edge: float) -> Window:
    """Choose the cell for a window of `edge` (A) around the origin of `offsets` (N, 3).

    A period whose height is at most `edge` is kept. If none is, a cube along x, y, z is cut, provided that no atom
    would be in it twice; otherwise a parallelepiped along the parent's directions whose other heights are `edge`.
    An open direction stays open if all atoms fit; otherwise it gets the period `edge`.
    """
    edges = np.full(3, edge)
    kept, faces = _kept(parent, edges), edge * np.eye(3)
    if not kept.any() and _axes_allow_cube(parent) and not _repeats_in(parent, faces):
        return Window(faces, parent.periodic | ~_fits(parent, offsets, edges), kept, faces, edges)
    return parallelepiped(parent, offsets, edges)


def dodecahedron(parent: Parent, offsets: FloatArray, edge: float) -> Window:
    """Choose a rhombic dodecahedron whose opposite faces are `edge` (A) apart: the cell of a face-centred lattice.

    It holds 0.71 of the cube's atoms around the same sphere. Where it does not fit, since the parent has open or small
    periods, `choose_window` decides.
    """
    vectors = edge / np.sqrt(2.0) * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, -1], [1, 0, -1], [1, -1, 0]])
    if not parent.periodic.all() or _repeats_in(parent, vectors):
        return choose_window(parent, offsets, edge)
    everywhere = np.ones(3, dtype=bool)
    return Window(vectors[:3].copy(), everywhere, ~everywhere, vectors, np.full(3, edge))


def parallelepiped(parent: Parent, offsets: FloatArray, edges: FloatArray) -> Window:
    """Return the window along the parent's directions with heights `edges` (3,), A; smaller periods are kept."""
    kept = _kept(parent, edges)
    scale = np.where(kept, 1.0, edges / parent.heights)
    pbc = parent.periodic | ~_fits(parent, offsets, edges)
    return Window(parent.basis * scale[:, None], pbc, kept, None, edges)


def whole_window(parent: Parent, offsets: FloatArray) -> Window:
    """Return the window that is the parent itself: all periods kept, open directions as wide as its atoms need."""
    reach = np.abs(parent.coordinates(offsets)).max(axis=0)
    edges = np.where(parent.periodic, parent.heights, 2.0 * reach + 1.0)
    return parallelepiped(parent, offsets, edges)


def _kept(parent: Parent, edges: FloatArray) -> BoolArray:
    return np.asarray(parent.periodic & (parent.heights <= edges + TOLERANCE_A))


def _fits(parent: Parent, offsets: FloatArray, edges: FloatArray) -> BoolArray:
    """Tell in which directions all atoms lie inside."""
    coordinates = parent.coordinates(offsets)
    return np.array([_in_half_open(coordinates[:, i], edges[i]).all() for i in range(3)])


def _in_half_open(lengths: FloatArray, edge: FloatArray | float) -> BoolArray:
    """Tell which lengths lie in [-edge/2, edge/2)."""
    half = 0.5 * edge - TOLERANCE_A
    return np.asarray((lengths >= -half - 2 * TOLERANCE_A) & (lengths < half))


def _axes_allow_cube(parent: Parent) -> bool:
    """Open directions must be x, y or z itself, or the cube's faces would not lie in the parent's planes."""
    rows = np.flatnonzero(~parent.periodic)
    return all(abs(abs(parent.basis[row, row]) - 1.0) < 1e-9 for row in rows)


def _repeats_in(parent: Parent, faces: FloatArray) -> bool:
    """Tell whether some lattice vector joins two points of the body: an atom could then be in twice."""
    reach = 2.0 * _outer_radius(faces)
    counts = np.where(parent.periodic, np.floor(reach / parent.heights), 0).astype(int)
    shifts = _shifts(counts)
    vectors = shifts[np.any(shifts != 0, axis=1)] @ parent.basis
    lengths = np.linalg.norm(faces, axis=1)
    return bool(np.any(np.all(np.abs(vectors @ (faces / lengths[:, None]).T) < lengths - TOLERANCE_A, axis=1)))


def _outer_radius(faces: FloatArray) -> float:
    """Return the distance, A, of the farthest corner from the centre: cube or rhombic dodecahedron."""
    edge = float(np.linalg.norm(faces[0]))
    return edge * float(np.sqrt(0.75 if len(faces) == 3 else 0.5))


def _shifts(counts: IndexArray) -> IndexArray:
    """Return (M, 3), all triples of integers from -counts to counts."""
    return np.array(list(product(*(range(-n, n + 1) for n in counts.tolist()))), dtype=np.int64)


def wrap(parent: Parent, coordinates: FloatArray) -> FloatArray:
    """Return `coordinates` (N, 3) moved by whole periods into [-1/2, 1/2) in the periodic directions."""
    tolerance = TOLERANCE_A / parent.heights
    return np.asarray(coordinates - np.where(parent.periodic, np.floor(coordinates + 0.5 + tolerance), 0.0))


def images_within(parent: Parent, offsets: FloatArray, reach: FloatArray) -> tuple[IndexArray, FloatArray]:
    """Find all periodic images whose distance to the origin, measured by lattice planes, is at most `reach` (3,), A.

    Returns
    -------
    indices : (M,), the atom that each image belongs to
    vectors : (M, 3), A
    """
    coordinates = wrap(parent, parent.coordinates(offsets))
    limits = np.where(parent.periodic, reach / parent.heights, np.inf)
    counts = np.where(parent.periodic, np.floor(np.minimum(limits, 1e6) + 0.5 + 1e-9), 0).astype(int)
    found_indices, found = [], []
    for shift in _shifts(counts):
        moved = coordinates + shift
        inside = np.flatnonzero(np.all(np.abs(moved) <= limits, axis=1))
        found_indices.append(inside)
        found.append(moved[inside])
    return np.concatenate(found_indices), np.concatenate(found) @ parent.basis


def select(parent: Parent, window: Window, offsets: FloatArray) -> tuple[IndexArray, FloatArray]:
    """Find the points inside the window; none is found twice.

    Parameters
    ----------
    offsets : (N, 3) positions relative to the centre atom, A

    Returns
    -------
    indices : (M,), ascending
    vectors : (M, 3) from the centre, A, the image that lies in the window
    """
    if window.faces is not None:
        reach = np.full(3, _outer_radius(window.faces) + TOLERANCE_A)
        indices, vectors = images_within(parent, offsets, reach)
        lengths = np.linalg.norm(window.faces, axis=1)
        inside = _in_half_open(vectors @ (window.faces / lengths[:, None]).T, lengths).all(axis=1)
        indices, vectors = indices[inside], vectors[inside]
        order = np.argsort(indices, kind="stable")
        return indices[order], vectors[order]
    coordinates = wrap(parent, parent.coordinates(offsets))
    inside = (_in_half_open(coordinates * parent.heights, window.edges) | window.kept).all(axis=1)
    indices = np.flatnonzero(inside)
    return indices, coordinates[indices] @ parent.basis


def distances_to_centre(parent: Parent, window: Window, vectors: FloatArray) -> FloatArray:
    """Return (M,) distances of `vectors` (M, 3) to the origin by the nearest image, A.

    They are exact where they are below half the smallest edge.
    """
    distances = np.linalg.norm(vectors, axis=1)
    # Cut directions need no images: their height exceeds the edge, so that an image is at least half an edge away.
    longest = float(np.max(window.edges))
    counts = np.where(window.kept, np.ceil(0.5 * longest / parent.heights + 0.5), 0).astype(int)
    for shift in _shifts(counts) @ parent.basis:
        np.minimum(distances, np.linalg.norm(vectors + shift, axis=1), out=distances)
    return np.asarray(distances)
