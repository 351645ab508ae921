"""Pairs that an inner cutoff hides from the extrapolation grade: their grade is infinite.

With `inner_cutoff_type: distance` all basis functions of a pair vanish at the inner cutoff, and with them its grade: a
pair squeezed from 2.07 A, the shortest trained, to 1.4 A had gamma 0.8 at r_in 2.3 A, and 14 419 without. The modes
`density` and `zbl` leave the functions of the grade as they are.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.terms import Potential
from mlip_autopipec.ace.wrapped import WrappedEvaluator
from mlip_autopipec.core.interfaces import Evaluation, Evaluator, Neighbourhood, PairStyle

# Just outside of the inner cutoff the functions are almost zero.
_MARGIN = 0.05


def blind_below(potential: Potential) -> FloatArray | None:
    """Return (n_species, n_species) the distances, A, below which a pair is hidden; None if no pair is."""
    n = len(potential.elements)
    limits = np.zeros((n, n))
    for pair, bond in potential.bonds.items():
        if bond.inner_cutoff_type == "distance" and bond.r_in > 0.0:
            limits[pair] = bond.r_in + _MARGIN
    return limits if limits.any() else None


def blind_atoms(frame: Neighbourhood, limits: FloatArray) -> np.ndarray:
    """Return (N,) bool: atoms that have a neighbour nearer than `limits` (n_species, n_species), A, allow."""
    centres = np.repeat(np.arange(frame.n_owned), np.diff(frame.first))
    apart = frame.positions[frame.neighbours] - frame.positions[centres]
    limit = limits[frame.species[centres], frame.species[frame.neighbours]]
    near = np.einsum("kx,kx->k", apart, apart) < limit**2
    hidden = np.zeros(frame.n_owned, dtype=bool)
    hidden[centres[near]] = True
    return hidden


class SightedEvaluator(WrappedEvaluator):
    """An `Evaluator` whose grade of atoms with a hidden pair is infinite; else it is the one that it is given."""

    def __init__(self, evaluator: Evaluator, limits: FloatArray) -> None:
        super().__init__(evaluator)
        self._limits = limits

    @property
    def overlay(self) -> PairStyle | None:
        """What is added to ACE."""
        return getattr(self._evaluator, "overlay", None)

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        """Evaluate one frame; raises as the evaluator that it is given does."""
        evaluation = self._evaluator.evaluate(frame, gamma=gamma)
        if evaluation.gamma is None:
            return evaluation
        return replace(evaluation, gamma=np.where(blind_atoms(frame, self._limits), np.inf, evaluation.gamma))
