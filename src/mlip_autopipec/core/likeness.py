"""Whether two structures are the same up to the order of their atoms, their place in the cell, and periodic images.

Such structures have the same label: the energy and stress are equal, the forces are those of the matching atoms.
Rotated cells and other choices of lattice vectors are not recognised; that costs a label, never makes a wrong one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.interfaces import FloatArray, IntArray

# Parts of a cell vector; 1e-6 A in a cell of 10 A. A forces' change over that is far below an SCF's noise.
_STEPS: Final = 10_000_000
# A; what rounding, wrapping and text files do to positions, and no physics.
_SAME_A: Final = 1e-5
_CELL_DECIMALS: Final = 6
# Every atom of the rarest element may be the origin; more than this cost more than they find.
_MOST_ORIGINS: Final = 500


def likeness_key(atoms: Atoms, labeller: Mapping[str, Any]) -> str:
    """Return 20 hexadecimal digits that are equal for like structures with equal label settings.

    Rounding can make the keys of like structures differ, once in a million; that they are equal says little before
    `matching` has looked.
    """
    cell = (np.asarray(atoms.cell, dtype=float).round(_CELL_DECIMALS) + 0.0).tolist()
    content = {
        "cell": cell,
        "pbc": [bool(p) for p in atoms.pbc],
        "atoms": _canonical(atoms).tolist(),
        "labeller": dict(labeller),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:20]


def matching(atoms: Atoms, other: Atoms) -> IntArray | None:
    """Return (N,) such that atom i of `atoms` is atom ``matching[i]`` of `other`, to 1e-5 A; None if they differ."""
    if len(atoms) != len(other) or sorted(atoms.numbers) != sorted(other.numbers):
        return None
    if (atoms.pbc != other.pbc).any() or np.abs(atoms.cell[:] - other.cell[:]).max() > 10.0**-_CELL_DECIMALS:
        return None
    first = _rarest(atoms.numbers)[0]
    for origin in _rarest(other.numbers)[:_MOST_ORIGINS]:
        found = _matched(atoms, other, atoms.positions[first] - other.positions[origin])
        if found is not None:
            return found
    return None


def _rarest(numbers: IntArray) -> IntArray:
    """Return the atoms of the element with the fewest atoms (of several, the lightest)."""
    kinds, counts = np.unique(numbers, return_counts=True)
    return np.flatnonzero(numbers == kinds[np.argmin(counts)]).astype(np.int32)


def _fractions(atoms: Atoms) -> FloatArray:
    """Return (N, 3) coordinates in parts of the cell vectors, in A along directions without one."""
    return np.asarray(np.linalg.solve(atoms.cell.complete()[:].T, atoms.positions.T).T)


def _canonical(atoms: Atoms) -> IntArray:
    """Return (N, 4) whole numbers, element and place, that no order, shift or image changes."""
    fractions = _fractions(atoms)
    first, *others = _rarest(atoms.numbers)[:_MOST_ORIGINS]
    best = _seen_from(first, fractions, atoms)
    for origin in others:
        rows = _seen_from(origin, fractions, atoms)
        best = rows if _is_before(rows, best) else best
    return best


def _seen_from(origin: int, fractions: FloatArray, atoms: Atoms) -> np.ndarray[Any, Any]:
    steps = np.rint((fractions - fractions[origin]) * _STEPS).astype(np.int64)
    steps[:, atoms.pbc] %= _STEPS
    rows = np.column_stack([atoms.numbers.astype(np.int64), steps])
    return np.asarray(rows[np.lexsort(rows.T[::-1])])


def _is_before(rows: np.ndarray[Any, Any], others: np.ndarray[Any, Any]) -> bool:
    differing = np.flatnonzero((rows != others).ravel())
    return bool(len(differing)) and bool(rows.ravel()[differing[0]] < others.ravel()[differing[0]])


def _matched(atoms: Atoms, other: Atoms, shift: FloatArray) -> IntArray | None:
    """Return which atom of `other`, moved by `shift`, each of `atoms` is."""
    cell = atoms.cell.complete()[:]
    found = np.full(len(atoms), -1, dtype=np.int32)
    for i, position in enumerate(atoms.positions):
        differences = np.linalg.solve(cell.T, (other.positions + shift - position).T).T
        differences[:, atoms.pbc] -= np.rint(differences[:, atoms.pbc])
        distances = np.linalg.norm(differences @ cell, axis=1)
        distances[other.numbers != atoms.numbers[i]] = np.inf
        nearest = int(np.argmin(distances))
        if distances[nearest] > _SAME_A:
            return None
        found[i] = nearest
    return found if len(set(found.tolist())) == len(found) else None
