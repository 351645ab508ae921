"""What spglib finds in a crystal: its space group, its standard cells, which atoms are equivalent."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import spglib
import spglib.error
from ase import Atoms

from mlip_autopipec.core.interfaces import IntArray

# Of the two ways in which spglib 2 tells failures, the one that stays.
spglib.error.OLD_ERROR_HANDLING = False
_SYMPREC_A: Final = 1e-3

# spglib names lists as types, and takes arrays.
Cell = tuple[Any, Any, Any]


def space_group(atoms: Atoms) -> int:
    """Return the number of the space group; 0 if spglib finds none."""
    try:
        dataset = spglib.get_symmetry_dataset(_as_cell(atoms), symprec=_SYMPREC_A)
    except spglib.SpglibError:
        return 0
    return 0 if dataset is None else int(dataset.number)


def standardised(atoms: Atoms, *, to_primitive: bool) -> Atoms:
    """Return the standard cell, conventional or primitive; a copy of the structure if spglib finds no symmetry."""
    try:
        found = spglib.standardize_cell(_as_cell(atoms), to_primitive=to_primitive, symprec=_SYMPREC_A)
    except spglib.SpglibError:
        found = None
    if found is None:
        return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
    cell, scaled, numbers = found
    return Atoms(numbers, scaled_positions=scaled, cell=cell, pbc=True)


def equivalent_atoms(atoms: Atoms) -> IntArray:
    """Return (N,) for each atom the first one that the crystal's symmetry maps onto it."""
    try:
        dataset = spglib.get_symmetry_dataset(_as_cell(atoms), symprec=_SYMPREC_A)
    except spglib.SpglibError:
        dataset = None
    found = range(len(atoms)) if dataset is None else dataset.equivalent_atoms
    return np.array(found, dtype=np.int32)


def _as_cell(atoms: Atoms) -> Cell:
    return np.asarray(atoms.cell[:]), np.asarray(atoms.get_scaled_positions()), np.asarray(atoms.numbers)
