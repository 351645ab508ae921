"""Makes neighbour lists with ghost atoms from ASE structures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import vesin
from ase import Atoms

from mlip_autopipec.ace.records import FloatArray, IntArray
from mlip_autopipec.core.errors import DataError, ModelError
from mlip_autopipec.core.interfaces import Neighbourhood


def neighbourhood(atoms: Atoms, cutoff: float, elements: Sequence[str]) -> Neighbourhood:
    """Return the full neighbour list of `atoms` within `cutoff`, A; any mixture of periodic and open directions.

    Raises
    ------
    DataError
        A number is not finite, or the periodic cell vectors are linearly dependent.
    ModelError
        An element is not among `elements`.
    """
    species = _species(atoms.get_chemical_symbols(), elements)
    positions = np.ascontiguousarray(atoms.positions, dtype=np.float64)
    cell = _complete_cell(np.asarray(atoms.cell, dtype=float), [bool(p) for p in atoms.pbc])
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise DataError("structure: a position or cell vector is not finite")
    finder = vesin.NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
    centres, others, shifts = finder.compute(positions, cell, [bool(p) for p in atoms.pbc], "ijS")
    order = np.argsort(centres, kind="stable")
    shifts = np.asarray(shifts)[order].reshape(-1, 3).astype(np.int64)
    rows, owners, ghosts = _ghost_rows(len(atoms), others[order].astype(np.int64), shifts, positions, cell)
    return Neighbourhood(
        positions=np.concatenate([positions, ghosts]),
        species=species[owners],
        owners=owners,
        first=np.searchsorted(centres[order], np.arange(len(atoms) + 1)).astype(np.int32),
        neighbours=rows,
    )


def _species(symbols: Sequence[str], elements: Sequence[str]) -> IntArray:
    index = {element: mu for mu, element in enumerate(elements)}
    unknown = sorted(set(symbols) - set(elements))
    if unknown:
        raise ModelError(f"the potential knows {' '.join(elements)}, but the structure contains {' '.join(unknown)}")
    return np.array([index[symbol] for symbol in symbols], dtype=np.int32)


def _complete_cell(cell: FloatArray, pbc: list[bool]) -> FloatArray:
    """Return the cell with open directions replaced by unit vectors normal to the periodic ones."""
    periodic = [k for k in range(3) if pbc[k]]
    span = cell[periodic]
    volume = np.sqrt(max(np.linalg.det(span @ span.T), 0.0)) if periodic else 1.0
    if volume <= 1e-9 * np.prod(np.linalg.norm(span, axis=1)):
        raise DataError("structure.cell: the periodic cell vectors are linearly dependent or zero")
    complete = cell.copy()
    # The right singular vectors beyond the rank span what the periodic vectors leave open.
    complete[[k for k in range(3) if not pbc[k]]] = np.linalg.svd(span)[2][len(periodic) :] if periodic else np.eye(3)
    return complete


def _ghost_rows(
    n: int, others: np.ndarray, shifts: np.ndarray, positions: FloatArray, cell: FloatArray
) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the row of each pair's neighbour, the owner of each row, and the ghosts' positions."""
    image = shifts.any(axis=1)
    width = 2 * int(np.abs(shifts).max(initial=0)) + 1
    key = np.ravel_multi_index((shifts + width // 2).T, (width, width, width)) * n + others
    _, representative, inverse = np.unique(key[image], return_index=True, return_inverse=True)
    ghost_owners = others[image][representative]
    rows = others.copy()
    rows[image] = n + inverse
    owners = np.concatenate([np.arange(n), ghost_owners]).astype(np.int32)
    return rows.astype(np.int32), owners, positions[ghost_owners] + shifts[image][representative] @ cell
