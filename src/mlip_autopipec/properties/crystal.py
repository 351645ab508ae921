"""The crystals that properties are computed of."""

from __future__ import annotations

from typing import Final

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers, reference_states

from mlip_autopipec.core.errors import DataError

# What ase.build.bulk makes of ASE's table of reference states.
_CUBIC: Final = frozenset({"fcc", "bcc", "diamond", "sc"})
_KNOWN: Final = _CUBIC | {"hcp"}
_RIGHT: Final = 1e-3


def reference_crystal(element: str) -> Atoms:
    """Return the conventional cell of an element's crystal at room temperature, after ASE's table.

    Raises
    ------
    DataError
        The table has no simple crystal of it.
    """
    state = reference_states[atomic_numbers[element]]
    symmetry = state["symmetry"] if state else None
    if symmetry not in _KNOWN:
        raise DataError(f"{element}: no simple crystal of it is known ({symmetry})", "give one with --structure")
    cell: Atoms = bulk(element, cubic=True) if symmetry in _CUBIC else bulk(element)
    return cell


def is_cubic(atoms: Atoms) -> bool:
    """True if the cell is a cube (the crystal need not have all its symmetry)."""
    lengths, angles = atoms.cell.lengths(), atoms.cell.angles()
    return bool(np.ptp(lengths) < _RIGHT * lengths.mean() and np.abs(angles - 90).max() < 0.1)


def supercell(atoms: Atoms, length: float) -> Atoms:
    """Return `atoms` repeated so that its periodic images are at least `length` (A) apart, in each direction."""
    repeats = [max(1, int(np.ceil(length / height - 1e-6))) for height in heights(atoms)]
    big: Atoms = atoms.repeat(repeats)
    big.calc = None
    return big


def heights(atoms: Atoms) -> list[float]:
    """Return the distances between opposite faces of the cell, A."""
    return [float(1 / np.linalg.norm(row)) for row in np.linalg.inv(atoms.cell.array).T]


def energy_per_atom(atoms: Atoms) -> float:
    """Return eV per atom, by the calculator that `atoms` has."""
    return float(atoms.get_potential_energy()) / len(atoms)
