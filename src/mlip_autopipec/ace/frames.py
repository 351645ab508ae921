"""Makes neighbour lists with ghost atoms from ASE structures."""

from __future__ import annotations

import numpy as np
import vesin
from ase import Atoms

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Neighbourhood


def species_indices(symbols: list[str], elements: tuple[str, ...]) -> np.ndarray:
    """Return (N,) indices into `elements`; `ModelError` for an element that the potential does not know."""
    index = {element: mu for mu, element in enumerate(elements)}
    unknown = sorted(set(symbols) - set(elements))
    if unknown:
        raise ModelError(f"the potential knows {', '.join(elements)}, not {', '.join(unknown)}")
    return np.array([index[symbol] for symbol in symbols], dtype=np.int32)


def neighbourhood(atoms: Atoms, cutoff: float, elements: tuple[str, ...]) -> Neighbourhood:
    """Return the full neighbour list of `atoms` within `cutoff`, A, any periodicity.

    Raises
    ------
    ModelError
        An element is unknown, or a periodic direction has no length.
    """
    n = len(atoms)
    species = species_indices(atoms.get_chemical_symbols(), elements)
    cell, pbc = np.asarray(atoms.cell.array), np.asarray(atoms.pbc)
    if pbc.any() and (
        abs(np.linalg.det(atoms.cell.complete().array)) < 1e-10 or (atoms.cell.lengths()[pbc] == 0).any()
    ):
        raise ModelError("the cell of a periodic structure has no volume")
    positions = np.ascontiguousarray(atoms.positions, dtype=np.float64)
    centres, others, shifts = vesin.NeighborList(cutoff=cutoff, full_list=True).compute(
        points=positions, box=atoms.cell.complete().array, periodic=pbc, quantities="ijS", copy=True
    )
    order = np.argsort(centres, kind="stable")
    centres, others, shifts = centres[order], others[order].astype(np.int64), shifts[order]
    rows, owners, ghosts = _ghost_rows(n, others, shifts, positions, cell)
    return Neighbourhood(
        positions=np.concatenate([positions, ghosts]),
        species=species[owners],
        owners=owners,
        first=np.searchsorted(centres, np.arange(n + 1)).astype(np.int32),
        neighbours=rows,
    )


def _ghost_rows(
    n: int, others: np.ndarray, shifts: np.ndarray, positions: np.ndarray, cell: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the row of each pair's neighbour, the owner of each row, and the ghosts' positions."""
    shifts = shifts.astype(np.int64)
    image = (shifts != 0).any(axis=1)
    reach = int(np.abs(shifts).max(initial=0)) + 1
    width = 2 * reach + 1
    code = ((others * width + shifts[:, 0] + reach) * width + shifts[:, 1] + reach) * width + shifts[:, 2] + reach
    _, representative, inverse = np.unique(code[image], return_index=True, return_inverse=True)
    ghost_owner = others[image][representative]
    ghosts = positions[ghost_owner] + shifts[image][representative] @ cell
    rows = others.copy()
    rows[image] = n + inverse
    owners = np.concatenate([np.arange(n), ghost_owner]).astype(np.int32)
    return rows.astype(np.int32), owners, ghosts.reshape(-1, 3)
