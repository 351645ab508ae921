"""Pair potentials over a neighbour list: ZBL with a smooth end, and Lennard-Jones shifted to zero at its cutoff."""

from __future__ import annotations

import math

from mlip_autopipec.ace.records import FloatArray, IntArray
from mlip_autopipec.core.compiled.jit import inline, kernel

# Kinds of pairs; 0 is none.
ZBL, LJ = 1.0, 2.0
N_NUMBERS = 14
"""Of a pair: kind, cutoff; ZBL: inner cutoff, cubic and quartic of its end, shift, 4 strengths, 4 decays; LJ: factors
of r^-12 and r^-6, shift."""


@inline
def _zbl(t: FloatArray, a: int, b: int, r: float) -> tuple[float, float]:
    energy, slope = t[a, b, 5], 0.0
    for term in range(4):
        part = t[a, b, 6 + term] * math.exp(-t[a, b, 10 + term] * r) / r
        energy += part
        slope -= part * (t[a, b, 10 + term] + 1.0 / r)
    if r > t[a, b, 2]:
        beyond = r - t[a, b, 2]
        energy += beyond**3 * (t[a, b, 3] + t[a, b, 4] * beyond)
        slope += beyond**2 * (3.0 * t[a, b, 3] + 4.0 * t[a, b, 4] * beyond)
    return energy, slope


@inline
def _lj(t: FloatArray, a: int, b: int, r: float) -> tuple[float, float]:
    six = 1.0 / r**6
    return six * (t[a, b, 2] * six - t[a, b, 3]) + t[a, b, 4], -6.0 * six * (2.0 * t[a, b, 2] * six - t[a, b, 3]) / r


@kernel
def add_pairs(
    positions: FloatArray,
    species: IntArray,
    first: IntArray,
    neighbours: IntArray,
    t: FloatArray,
    energies: FloatArray,
    forces: FloatArray,
    virial: FloatArray,
) -> None:
    """Add energies (N,), forces (N, 3) and virial (6,) of all pairs of a full list.

    Parameters
    ----------
    t
        (n_species, n_species, N_NUMBERS).
    """
    for i in range(len(first) - 1):
        a = species[i]
        for k in range(first[i], first[i + 1]):
            j = neighbours[k]
            b = species[j]
            x = positions[j, 0] - positions[i, 0]
            y = positions[j, 1] - positions[i, 1]
            z = positions[j, 2] - positions[i, 2]
            square = x * x + y * y + z * z
            if t[a, b, 0] == 0.0 or square >= t[a, b, 1] * t[a, b, 1]:
                continue
            r = math.sqrt(square)
            energy, slope = _zbl(t, a, b, r) if t[a, b, 0] == ZBL else _lj(t, a, b, r)
            # Both atoms have the pair in their lists: half the energy of each, but all of its force.
            energies[i] += 0.5 * energy
            pull = slope / r
            forces[i, 0] += pull * x
            forces[i, 1] += pull * y
            forces[i, 2] += pull * z
            half = 0.5 * pull
            virial[0] -= half * x * x
            virial[1] -= half * y * y
            virial[2] -= half * z * z
            virial[3] -= half * y * z
            virial[4] -= half * x * z
            virial[5] -= half * x * y
