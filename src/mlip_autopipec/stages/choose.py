"""candidates -> choose: which uncertain regions are worth a label.

Reads: frames with gamma per atom, B-projections of carved cells, seconds of finished labels. Writes: nothing; it
chooses, the walker publishes the chosen tasks. Next: `label`.

Cells are chosen one after the other as a batch: the rows of what waits for its label already, and of what was just
chosen, stand in a virtual active set, so that two views of the same thing are not both computed.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip_autopipec.ace.virtual_set import VirtualSet
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.core.neighbours import neighbourhood

# Of plane-wave DFT, whose cost grows with the cube of the number of electrons once the cell is not tiny.
_COST_POWER = 3


@dataclass(frozen=True)
class CostModel:
    """Estimated core-seconds of one label: ``prefactor * atoms ** 3``.

    Attributes
    ----------
    prefactor : s; 1 as long as nothing was measured, which ranks all the same
    """

    prefactor: float = 1.0

    @classmethod
    def learned(cls, measured: Iterable[tuple[int, float]]) -> CostModel:
        """Return the model with the median prefactor of labels that took (atoms, core-seconds)."""
        found = [seconds / atoms**_COST_POWER for atoms, seconds in measured if atoms > 0 and seconds > 0]
        return cls(statistics.median(found)) if found else cls()

    def seconds(self, n_atoms: int) -> float:
        """Return the estimate, core-seconds."""
        return self.prefactor * float(n_atoms) ** _COST_POWER


@dataclass(frozen=True)
class Candidate:
    """A carved cell that could be labelled.

    Attributes
    ----------
    name : task id
    n_atoms : of the whole cell
    rows : element -> (n, k) B-projections of its learned atoms
    """

    name: str
    n_atoms: int
    rows: Mapping[str, FloatArray]


@dataclass(frozen=True)
class Chosen:
    """A candidate that is worth its label.

    Attributes
    ----------
    gamma : in the virtual active set at the time of the choice
    gain : growth of log |det A|, dimensionless
    seconds : estimated core-seconds
    """

    name: str
    gamma: float
    gain: float
    seconds: float


def choose(
    candidates: Sequence[Candidate], virtual: VirtualSet, *, threshold: float, cost: CostModel, most: int
) -> tuple[list[Chosen], dict[str, float]]:
    """Choose greedily by gain per core-second.

    Parameters
    ----------
    virtual
        Active set with the cells that wait for labels; the chosen ones enter it.
    threshold
        gamma; candidates that are below it in the virtual set are not sent.
    most
        Largest number to choose.

    Returns
    -------
    chosen : in the order of the choice
    known : name -> gamma of those that are below the threshold now
    """
    chosen: list[Chosen] = []
    known: dict[str, float] = {}
    left = list(candidates)
    while True:
        gammas = {candidate.name: virtual.gamma(candidate.rows) for candidate in left}
        known |= {name: gamma for name, gamma in gammas.items() if gamma <= threshold}
        left = [candidate for candidate in left if candidate.name not in known]
        if not left or len(chosen) >= most:
            return chosen, known
        gains = [virtual.gain(candidate.rows) for candidate in left]
        prices = [cost.seconds(candidate.n_atoms) for candidate in left]
        best = int(np.argmax(np.asarray(gains) / np.asarray(prices)))
        candidate = left.pop(best)
        virtual.enter(candidate.rows)
        chosen.append(Chosen(candidate.name, gammas[candidate.name], gains[best], prices[best]))


def distinct_regions(frame: Atoms, *, apart: float, threshold: float, most: int) -> list[int]:
    """Return the atoms at the local maxima of gamma, the most uncertain first.

    Parameters
    ----------
    frame
        Atoms with the array `gamma`.
    apart
        A; an atom is a maximum if no atom within this distance has a larger gamma, so two maxima are never nearer.
    threshold
        Only atoms with a larger gamma count.
    most
        Largest number of atoms.
    """
    gamma = np.nan_to_num(np.asarray(frame.arrays["gamma"], dtype=float), nan=np.inf)
    if most < 1 or not (gamma > threshold).any():
        return []
    near = neighbourhood(frame, apart, sorted(set(frame.get_chemical_symbols())))
    centres = np.repeat(np.arange(len(frame)), np.diff(near.first))
    others = near.owners[near.neighbours]
    # Of equal ones the first in the frame is the maximum.
    higher = (gamma[others] > gamma[centres]) | ((gamma[others] == gamma[centres]) & (others < centres))
    distances = np.linalg.norm(near.positions[near.neighbours] - near.positions[centres], axis=1)
    beaten = np.zeros(len(frame), dtype=bool)
    beaten[centres[higher & (distances <= apart)]] = True
    peaks = np.flatnonzero(~beaten & (gamma > threshold))
    return [int(i) for i in peaks[np.argsort(-gamma[peaks], kind="stable")][:most]]
