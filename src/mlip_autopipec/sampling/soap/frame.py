"""A structure with its periodic images, sorted into cells no wider than half the reach."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from mlip_autopipec.core.compiled.vectors import WIDTH
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.core.neighbours import complete_cell
from mlip_autopipec.sampling.soap.records import SLAB, Frame

# A few atoms far apart must not make a billion empty cells.
_CELLS_PER_ATOM = 8


def make_frame(atoms: Atoms, tags: FloatArray, chosen: np.ndarray, reach: float, wanted: int) -> Frame:
    """Return the frame of the `chosen` centres (indices).

    Parameters
    ----------
    tags
        (N,) index of each atom's species.
    reach
        A.

    Raises
    ------
    DataError
        A number is not finite, or the periodic cell vectors are linearly dependent.
    """
    positions, cell = np.asarray(atoms.positions, dtype=float), np.asarray(atoms.cell, dtype=float)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise DataError("structure: a position or cell vector is not finite")
    homes, rows, owners = _with_images(positions, complete_cell(cell, atoms.pbc), atoms.pbc, reach)
    low, extent = rows.min(axis=0, initial=0.0), np.ptp(rows, axis=0) if len(rows) else np.zeros(3)
    edge, span = reach / 2.0, 2
    while np.prod(extent // edge + 1.0) > _CELLS_PER_ATOM * len(rows) + 100:
        edge, span = 2.0 * edge, 1
    shape = (extent // edge).astype(np.int64) + 1
    places = np.minimum(((rows - low) / edge).astype(np.int64), shape - 1)
    flat = (places[:, 0] * shape[1] + places[:, 1]) * shape[2] + places[:, 2]
    order = np.argsort(flat, kind="stable")
    sorted_rows = np.concatenate([rows[order], np.zeros((WIDTH, 3))]).T.copy()
    return Frame(
        n_centres=len(chosen),
        n_slabs=-(-len(chosen) // SLAB),
        wanted=wanted,
        span=span,
        shape=shape,
        centres=homes[chosen].ravel(),
        homes=places[: len(positions)][chosen].ravel(),
        x=sorted_rows[0],
        y=sorted_rows[1],
        z=sorted_rows[2],
        tags=np.concatenate([tags[owners[order]], np.full(WIDTH, -1.0)]),
        first=np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=int(np.prod(shape))))]),
    )


def _with_images(
    positions: FloatArray, cell: FloatArray, pbc: np.ndarray, reach: float
) -> tuple[FloatArray, FloatArray, np.ndarray]:
    """Return atoms wrapped into the cell (N, 3), these and all images within reach of it (M, 3), and owners (M,)."""
    inverse = np.linalg.inv(cell)
    fractions = positions @ inverse
    fractions[:, pbc] -= np.floor(fractions[:, pbc])
    rows, owners = fractions, np.arange(len(positions))
    # The distance of two lattice planes is one over the length of the reciprocal vector.
    margins = reach * np.linalg.norm(inverse, axis=0) + 1e-9
    for axis in np.flatnonzero(pbc):
        most = int(np.ceil(margins[axis]))
        shifts = np.delete(np.arange(-most, most + 1), most)
        moved = rows[:, axis] + shifts[:, None]
        shift, atom = np.nonzero((moved >= -margins[axis]) & (moved <= 1.0 + margins[axis]))
        images = rows[atom]
        images[:, axis] += shifts[shift]
        rows, owners = np.concatenate([rows, images]), np.concatenate([owners, owners[atom]])
    return fractions @ cell, rows @ cell, owners
