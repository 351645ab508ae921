"""Random packings for liquids, and soft spheres that push atoms apart until no pair is too near."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.structures.seeds.contacts import Bonds, pairs_with_vectors

_STEPS: Final = 600
# Spheres that overlap by less count as apart, of their diameter.
_TOUCHING: Final = 0.02
_ATTEMPTS: Final = 5


def random_packing(
    counts: Mapping[str, int], units: int, volume_per_atom: float, bonds: Bonds, rng: np.random.Generator,
    diameter: float = 0.86,
) -> Atoms:  # fmt: skip
    """Return a cubic cell of atoms at random places, pushed apart to `diameter` times the crystals' bonds.

    Parameters
    ----------
    counts, units
        Atoms of each element in a formula unit, and how many units.
    volume_per_atom
        A^3.

    Raises
    ------
    DataError
        The density is too high for such spheres.
    """
    symbols = [e for e, n in counts.items() for _ in range(n * units)]
    edge = (volume_per_atom * len(symbols)) ** (1.0 / 3.0)
    for _ in range(_ATTEMPTS):
        atoms = Atoms(symbols, scaled_positions=rng.random((len(symbols), 3)), cell=[edge] * 3, pbc=True)
        spread = push_apart(atoms, bonds, diameter)
        if spread is not None:
            return spread
    raise DataError(
        f"random packing: {len(symbols)} atoms at {volume_per_atom:.3g} A^3 each overlap whatever is tried",
        "the density is too high for this pair distance",
    )


def push_apart(atoms: Atoms, bonds: Bonds, diameter: float) -> Atoms | None:
    """Return a copy in which no pair is nearer than `diameter` times its bond (by 2 %); None if it does not come out.

    Soft spheres roll downhill: the energy is the sum of the squared overlaps, each in units of its diameter.
    """
    copy: Atoms = atoms.copy()
    symbols = np.asarray(copy.get_chemical_symbols())
    names = sorted(set(symbols))
    kinds = np.searchsorted(names, symbols)
    table = diameter * np.array([[bonds[a, b] for b in names] for a in names])
    for _ in range(_STEPS):
        move = _push(copy, kinds, table)
        if move is None:
            copy.wrap()
            return copy
        copy.positions += move
    return None


def _push(atoms: Atoms, kinds: np.ndarray, table: FloatArray) -> FloatArray | None:
    """Return the next displacements (N, 3) in A; None if nothing overlaps."""
    first, second, distances, vectors = pairs_with_vectors(atoms, float(table.max()))
    wanted = table[kinds[first], kinds[second]]
    overlap = wanted - distances
    if not len(overlap) or (overlap <= _TOUCHING * wanted).all():
        return None
    near = overlap > 0
    move = np.zeros((len(atoms), 3))
    # Half of the overlap for each of the two; a little less where many push.
    directions = vectors[near] / np.maximum(distances[near], 1e-6)[:, None]
    np.add.at(move, first[near], -0.25 * overlap[near, None] * directions)
    return move
