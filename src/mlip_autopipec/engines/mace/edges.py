"""Pairs of atoms of several structures, kept for some steps: a list with a skin costs much less than a list a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from vesin import NeighborList

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.core.neighbours import complete_cell

# Half of it is how far an atom may go: some ten steps in a hot liquid, hundreds in a cold crystal.
_SKIN: Final = 1.0
# Volume to that at the start, and A from the origin: the watchdog stops a trajectory long before.
_COLLAPSED: Final = 0.1
_FARTHEST: Final = 1e6


class Edges:
    """All pairs within `cutoff`, each in both directions, and some beyond it.

    Attributes
    ----------
    centres, others : (E,) atoms, counted over all structures
    shifts : (E, 3) periods of the cell, so that the vector of a pair is
        ``positions[others] - positions[centres] + shifts @ cell``
    owners : (E,) structure of each pair
    sound : (M,) False: the structure has lost its pairs, since it has exploded or its cell has collapsed
    """

    def __init__(self, structures: Sequence[Atoms], cutoff: float) -> None:
        self._cutoff = cutoff
        self._pbc = [atoms.pbc.copy() for atoms in structures]
        self._first = np.cumsum([0, *(len(atoms) for atoms in structures)])
        self._owner = np.repeat(np.arange(len(structures)), np.diff(self._first))
        self._volumes = np.array([self._volume(k, atoms.cell.array) for k, atoms in enumerate(structures)])
        self._then: tuple[FloatArray, FloatArray] | None = None
        self.sound = np.ones(len(structures), dtype=bool)

    def update(self, positions: FloatArray, cells: FloatArray) -> bool:
        """Find the pairs anew if some within the cutoff may be missing; return whether that was so."""
        sound = self._which_are_sound(positions, cells)
        positions = np.where(sound[self._owner, None], positions, 0.0)
        if self._then is not None and (sound == self.sound).all() and self._hold(positions, cells, *self._then):
            return False
        self.sound = sound
        pairs = [self._pairs(int(k), positions, cells[k]) for k in np.flatnonzero(sound)]
        counts = [len(centres) for centres, _, _ in pairs]
        self.centres = np.concatenate([np.empty(0, dtype=np.int64), *(found[0] for found in pairs)])
        self.others = np.concatenate([np.empty(0, dtype=np.int64), *(found[1] for found in pairs)])
        self.shifts = np.concatenate([np.empty((0, 3)), *(found[2] for found in pairs)])
        self.owners = np.repeat(np.flatnonzero(sound), counts)
        self._then = positions, cells.copy()
        return True

    def _hold(
        self, positions: FloatArray, cells: FloatArray, positions_then: FloatArray, cells_then: FloatArray
    ) -> bool:
        """True if no pair that was left out can be within the cutoff now.

        A pair that was left out was longer than cutoff + skin; the strain of its cell makes it shorter by no more than
        its smallest stretch, and what the atoms have moved beside that by no more than twice the largest of it.
        """
        strain = self._strains(cells, cells_then)
        moved = positions - np.einsum("ni,nij->nj", positions_then, strain[self._owner])
        farthest = np.zeros(len(cells))
        np.maximum.at(farthest, self._owner, np.linalg.norm(moved, axis=1))
        smallest = np.linalg.svd(strain, compute_uv=False)[:, -1]
        safe = smallest * (self._cutoff + _SKIN) - 2.0 * farthest >= self._cutoff
        return bool(safe[self.sound].all())

    def _strains(self, cells: FloatArray, cells_then: FloatArray) -> FloatArray:
        """Return (M, 3, 3) F with ``cell = cell_then @ F``; the identity where nothing has changed."""
        strains = np.tile(np.eye(3), (len(cells), 1, 1))
        for k in np.flatnonzero(self.sound & (cells != cells_then).any(axis=(1, 2))):
            then, now = (complete_cell(cell[k], self._pbc[k]) for cell in (cells_then, cells))
            strains[k] = np.linalg.solve(then, now)
        return strains

    def _which_are_sound(self, positions: FloatArray, cells: FloatArray) -> NDArray[np.bool_]:
        # Not a number is not below anything.
        lost = np.bincount(self._owner, ~(np.abs(positions) < _FARTHEST).all(axis=1), len(cells)) > 0
        finite = ~lost & np.isfinite(cells).all(axis=(1, 2))
        ratios = [self._volume(k, cell) / self._volumes[k] if finite[k] else 0.0 for k, cell in enumerate(cells)]
        return finite & (np.array(ratios) > _COLLAPSED)

    def _volume(self, number: int, cell: FloatArray) -> float:
        """Return the volume of a cell that is periodic in all directions, 1 of another: only the former changes."""
        return abs(float(np.linalg.det(cell))) if self._pbc[number].all() else 1.0

    def _pairs(
        self, number: int, positions: FloatArray, cell: FloatArray
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
        first, last = self._first[number : number + 2]
        builder = NeighborList(cutoff=self._cutoff + _SKIN, full_list=True, n_threads=1)
        pbc = self._pbc[number]
        found = builder.compute(positions[first:last], complete_cell(cell, pbc), [bool(p) for p in pbc], "ijS")
        centres, others, shifts = (np.asarray(part) for part in found)
        return centres.astype(np.int64) + first, others.astype(np.int64) + first, shifts.reshape(-1, 3).astype(float)
