"""Units, signs and index orders; the only place where they are converted.

Inside the house: eV, Angstrom, eV/Angstrom, eV/Angstrom^3, fs for time steps, K. Stress has ASE's sign (tension
positive) and ASE's Voigt order xx, yy, zz, yz, xz, xy. Virial = -volume * stress, in eV, in the same order.
Constants: CODATA 2018, doi:10.1103/RevModPhys.93.025010.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

KB_EV_PER_K = 8.617333262e-5
RYDBERG_EV = 13.605693122994
BOHR_A = 0.529177210903
EV_PER_A3_IN_GPA = 160.2176634
EV_PER_A3_IN_BAR = 1.602176634e6
# Rows of the ASE Voigt order (xx yy zz yz xz xy) in the order of LAMMPS and pyace (xx yy zz xy xz yz).
_ASE_TO_LAMMPS = (0, 1, 2, 5, 4, 3)

Array = NDArray[np.float64]


def reorder_voigt(values: Array) -> Array:
    """Swap between ASE's (xx yy zz yz xz xy) and LAMMPS' and pyace's order (xx yy zz xy xz yz); its own inverse."""
    return np.asarray(values, dtype=float)[..., _ASE_TO_LAMMPS]


def stress_from_virial(virial: Array, volume: float) -> Array:
    """Return stress (6,), eV/A^3, from virial (6,), eV."""
    return -np.asarray(virial, dtype=float) / volume


def virial_from_pyace(virial: Array) -> Array:
    """Return our virial (6,), eV, from pyace's, which is dE/dstrain in order xx yy zz xy xz yz."""
    return -reorder_voigt(virial)


def virial_to_lammps(virial: Array) -> Array:
    """Return the virial (6,) that `fix external` expects, eV, order xx yy zz xy xz yz (compression positive)."""
    return reorder_voigt(virial)


def stress_from_espresso(stress_ry_bohr3: Array) -> Array:
    """Return stress (3, 3), eV/A^3, from Quantum ESPRESSO's (3, 3), Ry/Bohr^3, which has the opposite sign."""
    return -np.asarray(stress_ry_bohr3, dtype=float) * RYDBERG_EV / BOHR_A**3


def voigt_from_tensor(tensor: Array) -> Array:
    """Return (6,) in ASE's order from a symmetric (3, 3)."""
    t = np.asarray(tensor, dtype=float)
    return np.array([t[0, 0], t[1, 1], t[2, 2], t[1, 2], t[0, 2], t[0, 1]])
