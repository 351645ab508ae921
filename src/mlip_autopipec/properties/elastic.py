"""Elastic constants by finite strains, positions relaxed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.units import GPa

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.properties.crystal import is_cubic
from mlip_autopipec.properties.property import Property, Value
from mlip_autopipec.properties.relaxation import relax_positions

_STRAIN: Final = 0.005
# Relative to C11: a cube of a crystal that is not cubic has more.
_CUBIC_DEVIATION: Final = 0.02
_VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def elastic_constants(crystal: Atoms, calculator: Any, strain: float = _STRAIN) -> Property:
    """Return C_ij in GPa: of a cubic crystal C11, C12, C44, averaged over what symmetry makes equal, else all 21.

    Central differences of the stress, Voigt order xx yy zz yz xz xy, engineering shear strains; moduli after Voigt,
    Reuss and Hill, doi:10.1088/0370-1298/65/5/307.

    Parameters
    ----------
    crystal
        At rest, positions and cell.
    strain
        Dimensionless, of each of the six components.
    """
    matrix = np.column_stack([_stress_by_strain(crystal, calculator, k, strain) for k in range(6)]) / GPa
    asymmetry = float(np.abs(matrix - matrix.T).max())
    matrix = (matrix + matrix.T) / 2
    c11, c12, c44 = cubic_average(matrix)
    deviation = float(np.abs(matrix - _cubic_matrix(c11, c12, c44)).max())
    if is_cubic(crystal) and deviation < _CUBIC_DEVIATION * abs(c11):
        matrix = _cubic_matrix(c11, c12, c44)
        constants = {"C11": c11, "C12": c12, "C44": c44}
    else:
        constants = {f"C{i + 1}{j + 1}": float(matrix[i, j]) for i in range(6) for j in range(i, 6)}
    bulk, shear = hill_moduli(matrix)
    stable = float(np.linalg.eigvalsh(matrix)[0])
    numbers = {**constants, "bulk modulus": bulk, "shear modulus": shear, "lowest eigenvalue": stable}
    return Property(
        "elastic",
        {name: Value(number, "GPa") for name, number in numbers.items()},
        {"matrix": matrix.tolist(), "asymmetry": asymmetry, "cubic_deviation": deviation},
    )


def cubic_average(matrix: FloatArray) -> tuple[float, float, float]:
    """Return C11, C12, C44: each the mean of the entries of (6, 6) that cubic symmetry makes equal."""
    normal = matrix[:3, :3]
    c12 = (normal.sum() - np.trace(normal)) / 6
    return float(np.trace(normal) / 3), float(c12), float(np.trace(matrix[3:, 3:]) / 3)


def hill_moduli(matrix: FloatArray) -> tuple[float, float]:
    """Return bulk and shear modulus of a polycrystal: means of Voigt's and Reuss' bounds, unit as `matrix`."""
    compliance = np.linalg.inv(matrix)
    c, s = matrix, compliance
    bulk_voigt = c[:3, :3].sum() / 9
    shear_voigt = (3 * np.trace(c[:3, :3]) - c[:3, :3].sum()) / 30 + np.trace(c[3:, 3:]) / 5
    bulk_reuss = 1 / s[:3, :3].sum()
    shear_reuss = 15 / (6 * np.trace(s[:3, :3]) - 2 * s[:3, :3].sum() + 3 * np.trace(s[3:, 3:]))
    return float((bulk_voigt + bulk_reuss) / 2), float((shear_voigt + shear_reuss) / 2)


def _cubic_matrix(c11: float, c12: float, c44: float) -> FloatArray:
    matrix = np.zeros((6, 6))
    matrix[:3, :3] = c12
    matrix[np.arange(6), np.arange(6)] = [c11] * 3 + [c44] * 3
    return matrix


def _stress_by_strain(crystal: Atoms, calculator: Any, component: int, strain: float) -> FloatArray:
    """Return (6,) d stress / d strain of one Voigt component, eV/A^3."""
    ends = [_strained(crystal, calculator, component, sign * strain).get_stress() for sign in (1, -1)]
    return np.asarray((ends[0] - ends[1]) / (2 * strain))


def _strained(crystal: Atoms, calculator: Any, component: int, strain: float) -> Atoms:
    i, j = _VOIGT[component]
    gradient = np.eye(3)
    if i == j:
        gradient[i, i] += strain
    else:
        gradient[i, j] = gradient[j, i] = strain / 2
    atoms = crystal.copy()
    atoms.set_cell(atoms.cell.array @ gradient, scale_atoms=True)
    return relax_positions(atoms, calculator)
