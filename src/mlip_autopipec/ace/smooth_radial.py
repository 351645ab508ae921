"""Radial functions fitted to what the training structures look like: few, smooth and telling.

Among all combinations R = sum_k v_k g_k of a long radial basis those are taken, separately for each angular momentum,
for which the training set's sums A have the largest variance compared with the roughness of R,

    maximise  v.C_l.v / v.S.v,   C_l = mean over atoms of sum_m A_klm A*_k'lm,
    S = integral e^(2 r / s) (g g' + h^2 dg/dr dg'/dr) dr.

Without h these are the optimal contractions of Goscinski, Musil, Pozdnyakov, Nigam and Ceriotti (2021),
doi:10.1063/5.0057229. With it, steep functions, which tell little about atoms between the training distances, come
last, so that a ridge on the coefficients of the potential is a prior for smooth energies. The weight, which grows with
the distance, is a prior too: distant neighbours matter less, and near ones get the finer functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from scipy.linalg import eigh

from mlip_autopipec.ace.radial import radial_basis
from mlip_autopipec.ace.records import Bond, Configuration, FloatArray
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.neighbours import neighbourhood

_GRID_POINTS = 600
# Below the shortest trained distance functions are extrapolated anyway, but those that shoot up at once are no good.
_BELOW_SHORTEST = 0.85


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Neighbours of some atoms of the training structures, whatever their element.

    Attributes
    ----------
    vectors : per atom, (n, 3) from the atom to its neighbours, A
    shortest : shortest distance, A
    """

    vectors: tuple[FloatArray, ...]
    shortest: float


def surroundings(structures: Sequence[Atoms], cutoff: float, most_atoms: int = 2000) -> Surroundings:
    """Return the neighbours within `cutoff` (A) of at most `most_atoms` atoms, taken evenly; the shortest of all.

    Raises
    ------
    DataError
        No atom has a neighbour.
    """
    total = sum(len(atoms) for atoms in structures)
    every = max(1, -(-total // most_atoms))
    vectors: list[FloatArray] = []
    shortest, number = np.inf, 0
    for atoms in structures:
        frame = neighbourhood(atoms, cutoff, sorted(set(atoms.get_chemical_symbols())))
        centres = np.repeat(np.arange(frame.n_owned), np.diff(frame.first))
        bonds = frame.positions[frame.neighbours] - frame.positions[centres]
        shortest = min(shortest, float(np.linalg.norm(bonds, axis=1).min(initial=np.inf)))
        own = (bonds[frame.first[i] : frame.first[i + 1]] for i in range(-number % every, frame.n_owned, every))
        vectors += [vectors_of_one for vectors_of_one in own if len(vectors_of_one)]
        number += frame.n_owned
    if not vectors:
        raise DataError(f"no atom has a neighbour within {cutoff:g} A", "raise the cutoff, or add denser structures")
    return Surroundings(tuple(vectors), shortest)


def neighbour_distance(around: Surroundings, count: int) -> float:
    """Return the median over atoms of the distance to the neighbour number `count`, A; infinite if most have fewer."""
    distances = [
        float(np.partition(np.linalg.norm(bonds, axis=1), count - 1)[count - 1]) if len(bonds) >= count else np.inf
        for bonds in around.vectors
    ]
    return float(np.median(distances))


def variances(around: Surroundings, bond: Bond, lmax: int) -> FloatArray:
    """Return C (lmax + 1, nradbase, nradbase) of the radial basis of `bond`.

    By the addition theorem, sum over m of A_klm A*_k'lm = (2l + 1) sum over pairs of neighbours g_k g_k' P_l(cos);
    the factor is left out.
    """
    found = np.zeros((lmax + 1, bond.nradbase, bond.nradbase))
    for bonds in around.vectors:
        r = np.linalg.norm(bonds, axis=1)
        g, _ = radial_basis(bond, r)
        unit = bonds / r[:, None]
        cosine = np.clip(unit @ unit.T, -1.0, 1.0)
        last, legendre = np.zeros_like(cosine), np.ones_like(cosine)
        for angular in range(lmax + 1):
            found[angular] += g.T @ legendre @ g
            ahead = ((2 * angular + 1) * cosine * legendre - angular * last) / (angular + 1)
            last, legendre = legendre, ahead
    return found / len(around.vectors)


def smooth_coefficients(
    around: Surroundings,
    bond: Bond,
    nradmax: int,
    lmax: int,
    smoothing: float,
    fading: float = np.inf,
    bending: float = 0.1,
) -> FloatArray:
    """Return radial coefficients (nradmax, lmax + 1, nradbase), the most telling function first.

    Parameters
    ----------
    bond
        Its radial basis; nradbase at least `nradmax`.
    smoothing
        h, A.
    fading
        s, A.
    bending
        Dimensionless; functions of angular momentum l are divided by sqrt(1 + bending l (l + 1)), which the ridge
        feels as a price of angular roughness.

    Raises
    ------
    DataError
        The cutoff is not above the shortest distance, or there are fewer basis functions than wanted.
    """
    if nradmax > bond.nradbase:
        raise DataError(f"{nradmax} radial functions from a basis of {bond.nradbase}", "raise nradbase")
    start = _BELOW_SHORTEST * around.shortest
    if start >= bond.rcut:
        raise DataError(f"the cutoff {bond.rcut:g} A is below the shortest distance {around.shortest:g} A")
    grid = np.linspace(start, bond.rcut, _GRID_POINTS)
    g, slope = radial_basis(bond, grid)
    weight = np.exp((grid - start) / fading)[:, None]
    g, slope = weight * g, weight * slope
    roughness = (g.T @ g + smoothing**2 * slope.T @ slope) * (grid[1] - grid[0])
    # A long basis is almost dependent.
    roughness += 1e-12 * np.trace(roughness) / bond.nradbase * np.eye(bond.nradbase)
    coefficients = np.zeros((nradmax, lmax + 1, bond.nradbase))
    for angular, variance in enumerate(variances(around, bond, lmax)):
        vectors = eigh(variance, roughness, subset_by_index=[bond.nradbase - nradmax, bond.nradbase - 1])[1][:, ::-1]
        # Which of v and -v the library returns would otherwise depend on the machine.
        values = g @ vectors
        vectors = vectors * np.sign(values[np.abs(values).argmax(axis=0), np.arange(nradmax)])
        coefficients[:, angular] = vectors.T / np.sqrt(1.0 + bending * angular * (angular + 1))
    return coefficients


def with_smooth_radial(
    configuration: Configuration, around: Surroundings, smoothing: float, fading: float = np.inf
) -> Configuration:
    """Return the configuration with the radial functions of all pairs fitted to the surroundings; h and s in A."""
    blocks = []
    for block in configuration.blocks:
        bond = block.bond
        if bond is not None and bond.nradmax:
            fitted = smooth_coefficients(around, bond, bond.nradmax, bond.lmax, smoothing, fading)
            bond = replace(bond, radcoefficients=fitted)
        blocks.append(replace(block, bond=bond))
    return replace(configuration, blocks=tuple(blocks))
