"""Charge densities of the last labels, in this process' memory: where an SCF of nearly the same structure may start.

Saves up to a quarter of the iterations where atoms have moved by a few hundredths of an A, and nothing beyond 0.1 A
(`scripts/bench density`). Only without spin: a magnetic SCF would stay in its neighbour's magnetic state.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.geometry import find_mic

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.core.periodic import Job
from mlip_autopipec.engines.espresso.scratch import Scratch
from mlip_autopipec.engines.espresso.settings import EspressoSettings

# A; a density that is farther away saves nothing.
NEAR_A = 0.1
_LARGEST_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True)
class _Kept:
    positions: FloatArray
    files: dict[str, bytes]

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values()))


class DensityMemory:
    """One density for each cell; those not used for longest are forgotten.

    Parameters
    ----------
    cells
        Largest number of cells; 0: none, and pw.x need not write its density.
    limit
        Bytes of all together.
    """

    def __init__(self, cells: int, limit: int = _LARGEST_BYTES) -> None:
        self._cells = cells
        self._limit = limit
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    def takes(self, job: Job, nspin: int) -> bool:
        """True if the densities of such jobs are kept."""
        return self._cells > 0 and nspin == 1 and job.magnetization is None

    def lay(self, job: Job, settings: EspressoSettings, scratch: Scratch) -> bool:
        """Put the density of a neighbour where pw.x looks for it; False if none is near."""
        kept = self._kept.get(_key(job, settings))
        if kept is None:
            return False
        _, moved = find_mic(job.atoms.positions - kept.positions, job.atoms.cell[:], pbc=True)
        if moved.max() > NEAR_A:
            return False
        with contextlib.suppress(OSError):
            scratch.put_density(kept.files)
        return scratch.has_density

    def keep(self, job: Job, settings: EspressoSettings, scratch: Scratch) -> None:
        """Remember the density of a label."""
        key = _key(job, settings)
        self._kept.pop(key, None)
        with contextlib.suppress(OSError):
            kept = _Kept(job.atoms.positions.copy(), scratch.read_density())
            if kept.files and kept.size <= self._limit:
                self._kept[key] = kept
        while len(self._kept) > self._cells or sum(k.size for k in self._kept.values()) > self._limit:
            self._kept.popitem(last=False)


def _key(job: Job, settings: EspressoSettings) -> str:
    """Return the hash of everything but the places of the atoms, which have to come in the same order."""
    cell = np.asarray(job.atoms.cell).round(6).tolist()
    content = [job.atoms.numbers.tolist(), cell, job.kpoints, job.slab_axis, settings.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
