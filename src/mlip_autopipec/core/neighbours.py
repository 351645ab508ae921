"""Neighbour lists of frames outside MD: ghosts are made explicit, so that an evaluator sees open boundaries only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms
from vesin import NeighborList

from mlip_autopipec.core.errors import DataError, ModelError
from mlip_autopipec.core.interfaces import FloatArray, IntArray, Neighbourhood


def species_indices(symbols: Sequence[str], elements: Sequence[str]) -> IntArray:
    """Return (N,) the index of each symbol in `elements`.

    Raises
    ------
    ModelError
        A symbol is not among `elements`.
    """
    index = {element: i for i, element in enumerate(elements)}
    unknown = sorted(set(symbols) - set(index))
    if unknown:
        raise ModelError(
            f"the potential knows {' '.join(elements)}, but the structure contains {' '.join(unknown)}",
            "train a potential with this element, or choose another start structure",
        )
    return np.array([index[s] for s in symbols], dtype=np.int32)


def neighbourhood(atoms: Atoms, cutoff: float, elements: Sequence[str]) -> Neighbourhood:
    """Return `atoms` with the periodic images within `cutoff` and the full neighbour list.

    Parameters
    ----------
    atoms
        Any mixture of periodic and open directions; open directions may have a cell vector of length zero, and a
        period may be shorter than the cutoff.
    cutoff
        A.
    elements
        The evaluator's elements, in its order.

    Raises
    ------
    DataError
        The periodic cell vectors are linearly dependent, or a number is not finite.
    ModelError
        An element is not among `elements`.
    """
    species = species_indices(atoms.get_chemical_symbols(), elements)
    positions = np.ascontiguousarray(atoms.positions, dtype=float)
    cell = complete_cell(np.asarray(atoms.cell, dtype=float), atoms.pbc)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise DataError("structure: a position or cell vector is not finite")
    builder = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    centre, other, shift = builder.compute(positions, cell, [bool(p) for p in atoms.pbc], "ijS")
    return _with_ghosts(positions, cell, species, (centre, other, np.asarray(shift)))


def complete_cell(cell: FloatArray, pbc: Sequence[bool]) -> FloatArray:
    """Return `cell` with every open direction replaced by a unit vector normal to the others."""
    periodic = [k for k in range(3) if pbc[k]]
    span = cell[periodic]
    lengths = np.linalg.norm(span, axis=1)
    volume = np.sqrt(max(np.linalg.det(span @ span.T), 0.0)) if periodic else 1.0
    if volume <= 1e-9 * np.prod(lengths):
        raise DataError("structure.cell: the periodic cell vectors are linearly dependent or zero")
    complete = cell.copy()
    # The right singular vectors beyond the rank are an orthonormal basis of what the periodic vectors do not span.
    normals = np.linalg.svd(span)[2][len(periodic) :] if periodic else np.eye(3)
    complete[[k for k in range(3) if not pbc[k]]] = normals
    return complete


def _with_ghosts(
    positions: FloatArray, cell: FloatArray, species: IntArray, pairs: tuple[Any, Any, Any]
) -> Neighbourhood:
    centre, other, shift = pairs
    n = len(positions)
    order = np.argsort(centre, kind="stable")
    centre, other = centre[order].astype(np.int64), other[order].astype(np.int64)
    shift = shift[order].reshape(-1, 3).astype(np.int64)
    image = shift.any(axis=1)
    span = int(np.abs(shift).max(initial=0)) * 2 + 1
    key = np.ravel_multi_index((shift + span // 2).T, (span, span, span)) * n + other
    ghosts, ghost_of = np.unique(key[image], return_inverse=True)
    rows = other.copy()
    rows[image] = n + ghost_of
    owners = ghosts % n
    ghost_shift = np.array(np.unravel_index(ghosts // n, (span, span, span))).T - span // 2
    return Neighbourhood(
        positions=np.vstack([positions, positions[owners] + ghost_shift @ cell]),
        species=np.concatenate([species, species[owners]]).astype(np.int32),
        owners=np.concatenate([np.arange(n), owners]).astype(np.int32),
        first=np.concatenate([[0], np.cumsum(np.bincount(centre, minlength=n))]).astype(np.int32),
        neighbours=rows.astype(np.int32),
    )
