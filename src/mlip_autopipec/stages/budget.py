"""seeds, walkers -> budget: how many labels a run will take, and how many core-hours, before the first is made.

Reads: the seeds, what the walkers are to do, what labels cost elsewhere. Writes: nothing. Next: `explore`.

Rough by nature; within a factor of two where it was measured: EMT aluminium (50 labels) and Cu-Au (74).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase import Atoms

# Labels that a walker asks for: a few where it is cold, more where the crystal melts; whatever the number of steps, as
# a potential that knows a phase asks no more.
_PER_WALKER: Final = 2.0
_PER_FURTHER_ELEMENT: Final = 1.0
# Carved cells with the default buffer: atoms of a sphere of cutoff + buffer in a rhombic dodecahedron.
_CARVED_ATOMS: Final = 70
# Core-seconds of one SCF and its forces: a start, and electrons squared by k-points. Measured with pw.x 6.7 for Al4,
# Si8 and Al34 (1.4, 7, 55 s) and within a factor of three for other elements; GPAW takes about twice as long.
_START_S: Final = 1.0
_PER_ELECTRONS_2: Final = 2.0e-3
_ENGINE: Final = {"espresso": 1.0, "gpaw": 2.0, "vasp": 0.7}
# Of analytic potentials, measured with EMT: a claim and files each, and what Python takes by atom.
_ANALYTIC_START_S: Final = 0.02
_ANALYTIC_ATOM_S: Final = 0.0025
_SPIN: Final = 2.0


@dataclass(frozen=True)
class Budget:
    """What a run is expected to take.

    Attributes
    ----------
    seeds, on_the_fly : labels before the first version, and of the walkers
    core_hours : of all labels
    """

    seeds: int
    on_the_fly: int
    core_hours: float

    @property
    def labels(self) -> int:
        return self.seeds + self.on_the_fly


@dataclass(frozen=True)
class DftCost:
    """What decides the time of a label.

    Attributes
    ----------
    kspacing : 1/A with 2 pi; 0 for an analytic potential
    spin : True if spins are computed
    """

    engine: str
    kspacing: float = 0.0
    spin: bool = False

    def core_seconds(self, atoms: Atoms) -> float:
        """Return the estimate for one structure, core-seconds."""
        if self.engine not in _ENGINE:
            return _ANALYTIC_START_S + _ANALYTIC_ATOM_S * len(atoms)
        electrons = float(sum(_valence(int(z)) for z in atoms.numbers))
        seconds = _START_S + _PER_ELECTRONS_2 * electrons**2 * _kpoints(atoms, self.kspacing)
        return _ENGINE[self.engine] * seconds * (_SPIN if self.spin else 1.0)


def budget(
    seeds: Sequence[Atoms],
    cost: DftCost,
    n_walkers: int,
    start: Atoms,
    audit_fraction: float,
    *,
    picks: int | None = None,
) -> Budget:
    """Return what labels are expected.

    Parameters
    ----------
    picks
        Labels before the first version of a run that explores, of structures like the seeds; None: the seeds.
    start
        What the walkers begin with: carved cells are as dense as this.
    audit_fraction
        Share of the walkers' labels that are audits, besides.
    """
    elements = len(set(start.get_chemical_symbols()))
    asked = n_walkers * (_PER_WALKER + _PER_FURTHER_ELEMENT * (elements - 1)) / (1.0 - audit_fraction)
    carved = _piece(start, _CARVED_ATOMS)
    first = len(seeds) if picks is None else picks
    each = sum(cost.core_seconds(atoms) for atoms in seeds) / len(seeds)
    return Budget(first, round(asked), (first * each + asked * cost.core_seconds(carved)) / 3600.0)


def _piece(atoms: Atoms, count: int) -> Atoms:
    """Return a cell of about `count` atoms with the composition and density of `atoms`, for its cost only."""
    kept = atoms[: min(count, len(atoms))]
    edge = (abs(atoms.cell.volume) / len(atoms) * len(kept)) ** (1.0 / 3.0)
    kept.set_cell([edge] * 3)
    return kept


def _kpoints(atoms: Atoms, spacing: float) -> float:
    """Return the number of k-points that remain by time reversal."""
    counts = [
        max(1, int(np.ceil(2.0 * np.pi * float(length) / spacing))) if periodic else 1
        for length, periodic in zip(_reciprocal(atoms), atoms.pbc, strict=True)
    ]
    return max(1.0, float(np.prod(counts)) / 2.0)


def _reciprocal(atoms: Atoms) -> Iterable[float]:
    return [float(np.linalg.norm(row)) for row in np.asarray(atoms.cell.reciprocal())]


def _valence(number: int) -> int:
    """Return about how many electrons a pseudopotential of an element has: beyond the last noble gas, d shells open."""
    for core in (86, 54, 36, 18, 10, 2):
        if number > core:
            outer = number - core
            # Full d (and f) shells of the p elements count little: 10 (and 14) electrons less.
            return outer - 24 if outer > 28 else outer - 10 if outer > 12 and core >= 18 else outer
    return max(1, number)
