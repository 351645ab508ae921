"""Lattice constants and the equation of state."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.eos import EquationOfState
from ase.units import GPa

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.properties.crystal import energy_per_atom
from mlip_autopipec.properties.property import Property, Value
from mlip_autopipec.properties.relaxation import relax_positions

# Of the volume: wide enough for the curvature, and still what a crystal meets between 0 K and melting.
_RANGE: Final = 0.08
_POINTS: Final = 9


def lattice(crystal: Atoms) -> Property:
    """Return lattice constants (A), volume and energy per atom of a relaxed crystal."""
    lengths, angles = crystal.cell.lengths(), crystal.cell.angles()
    values = {}
    for name, length, others in zip("abc", lengths, ((), (0,), (0, 1)), strict=True):
        if not any(abs(length - lengths[k]) < 1e-4 * length for k in others):
            values[name] = Value(float(length), "A")
    for name, angle in zip(("alpha", "beta", "gamma"), angles, strict=True):
        if min(abs(angle - 90), abs(angle - 120)) > 0.05:
            values[name] = Value(float(angle), "degree")
    return Property("lattice", {**values, "volume": Value(float(crystal.get_volume()) / len(crystal), "A^3/atom")})


def equation_of_state(crystal: Atoms, calculator: Any) -> Property:
    """Return volume, bulk modulus and the curve energy over volume, positions relaxed.

    Birch, Phys. Rev. 71, 809 (1947), doi:10.1103/PhysRev.71.809.

    Raises
    ------
    DataError
        The energies have no minimum in the range.
    """
    volumes, energies = [], []
    for ratio in np.linspace(1 - _RANGE, 1 + _RANGE, _POINTS):
        cell = crystal.copy()
        cell.set_cell(cell.cell.array * ratio ** (1 / 3), scale_atoms=True)
        atoms = relax_positions(cell, calculator)
        volumes.append(atoms.get_volume() / len(atoms))
        energies.append(energy_per_atom(atoms))
    lowest = int(np.argmin(energies))
    if lowest in (0, len(energies) - 1):
        raise DataError(f"the energy has no minimum between {volumes[0]:.4g} and {volumes[-1]:.4g} A^3/atom")
    volume, energy, modulus = EquationOfState(volumes, energies, eos="birchmurnaghan").fit(warn=False)
    return Property(
        "eos",
        {"V0": Value(float(volume), "A^3/atom"), "bulk modulus": Value(float(modulus / GPa), "GPa")},
        {"volumes": volumes, "energies": [float(e - energy) for e in energies]},
    )
