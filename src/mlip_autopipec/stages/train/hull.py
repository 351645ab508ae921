"""The convex hull of energies over compositions: what is stable, and how far above it something else is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.optimize import linprog

from mlip_autopipec.core.interfaces import FloatArray


def lower_hull(structures: Sequence[Atoms], energies: Sequence[float], at: Sequence[Atoms]) -> list[float]:
    """Return the energy per atom of the hull at the compositions of `at`, eV.

    The least energy of any mixture of `structures` (`energies` eV per atom) of that composition: a linear program.
    Where no mixture has the composition, the lowest energy of all.
    """
    numbers = sorted({int(number) for atoms in (*structures, *at) for number in atoms.numbers})
    least: dict[tuple[float, ...], float] = {}
    for atoms, energy in zip(structures, energies, strict=True):
        shares = _shares(atoms, numbers)
        least[shares] = min(energy, least.get(shares, np.inf))
    corners, values = np.array(list(least)).T, np.array(list(least.values()))
    found: list[float] = []
    for atoms in at:
        mixture = linprog(values, A_eq=corners, b_eq=np.array(_shares(atoms, numbers)))
        found.append(float(values @ mixture.x if mixture.success else values.min()))
    return found


def _shares(atoms: Atoms, numbers: Sequence[int]) -> tuple[float, ...]:
    counts: FloatArray = np.array([np.sum(atoms.numbers == number) for number in numbers], dtype=float)
    return tuple((counts / len(atoms)).tolist())
