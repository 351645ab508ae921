"""Dimers and trimers: what pairs and angles do alone, from short distances outward."""

from __future__ import annotations

from itertools import combinations_with_replacement, islice, product
from typing import Final

import numpy as np
from ase import Atoms

from mlip_autopipec.structures.seeds.contacts import Bonds

# Distance / bond of the crystals. Nearer, forces exceed what any fit should learn.
_NEAREST: Final = 0.72
_FARTHEST: Final = 1.5
_BOX_A: Final = 12.0


def dimers(elements: tuple[str, ...], count: int, bonds: Bonds) -> list[Atoms]:
    """Return `count` pairs of atoms: for all pairs of elements in turn, distances from short to long."""
    pairs = list(combinations_with_replacement(elements, 2))
    each = [count // len(pairs) + (k < count % len(pairs)) for k in range(len(pairs))]
    found = []
    for (a, b), n in zip(pairs, each, strict=True):
        # Denser at short distances, where energies change fastest.
        for place in np.linspace(0.0, 1.0, n + 1)[:-1]:
            distance = bonds[a, b] * (_NEAREST + (_FARTHEST - _NEAREST) * place**1.5)
            found.append(_boxed([a, b], np.array([[0, 0, 0], [distance, 0, 0]])))
    return found


def trimers(elements: tuple[str, ...], count: int, bonds: Bonds, rng: np.random.Generator) -> list[Atoms]:
    """Return `count` triples: random angles of 55 to 180 degrees, sides near the bonds."""
    triples = product(combinations_with_replacement(elements, 2), elements)
    found = []
    for (a, c), b in islice(_for_ever(list(triples)), count):
        angle = np.deg2rad(rng.uniform(55.0, 180.0))
        ab, bc = (bonds[x, b] * rng.uniform(0.85, 1.25) for x in (a, c))
        ends = np.array([[ab, 0, 0], [0, 0, 0], [bc * np.cos(angle), bc * np.sin(angle), 0]])
        # The third side follows from the other two: it must not be shorter than any bond.
        third = float(np.linalg.norm(ends[0] - ends[2])) / (0.85 * bonds[a, c])
        found.append(_boxed([a, b, c], ends / min(1.0, third)))
    return found


def _for_ever(items: list[tuple[tuple[str, str], str]]):  # type: ignore[no-untyped-def]
    while True:
        yield from items


def _boxed(symbols: list[str], positions: np.ndarray) -> Atoms:
    atoms = Atoms(symbols, positions=positions, cell=[_BOX_A] * 3, pbc=False)
    atoms.center()
    return atoms
