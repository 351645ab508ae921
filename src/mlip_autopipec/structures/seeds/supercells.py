"""Supercells fit for DFT: few atoms, as far from their own images as may be."""

from __future__ import annotations

from itertools import product
from typing import Final

import numpy as np
from ase import Atoms

_MOST_REPEATS: Final = 6


def supercell(cells: list[Atoms], most: int, *, least: int = 1) -> Atoms:
    """Return the repeat of one of these cells with at most `most` atoms whose nearest image is farthest away.

    Parameters
    ----------
    cells
        Different cells of one crystal: primitive, conventional.
    most, least
        Atoms; a cell that is larger than `most` by itself is returned as it is.
    """
    best: tuple[tuple[bool, float, int], Atoms, tuple[int, ...]] | None = None
    for cell in cells:
        for repeats in product(range(1, _MOST_REPEATS + 1), repeat=3):
            count = len(cell) * int(np.prod(repeats))
            if count > most:
                continue
            distance = shortest_period(np.asarray(cell.cell[:]) * np.array(repeats)[:, None])
            # Of equally good ones the smallest.
            rank = (count >= least, round(distance, 3), -count)
            if best is None or rank > best[0]:
                best = rank, cell, repeats
    if best is None:
        smallest: Atoms = min(cells, key=len).copy()
        return smallest
    repeated: Atoms = best[1].repeat(best[2])
    return repeated


def shortest_period(cell: np.ndarray) -> float:
    """Return the length of the shortest lattice vector, A.

    Parameters
    ----------
    cell
        (3, 3) rows are cell vectors, A; not too skewed.
    """
    steps = np.array([n for n in product((-1, 0, 1), repeat=3) if n > (0, 0, 0)])
    return float(np.linalg.norm(steps @ cell, axis=1).min())
