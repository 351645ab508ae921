"""How far functions see, by what the labels say: the cutoff at which a small basis errs least on labels left out.

Elements differ: 28 neighbours are best for liquid and solid molybdenum, 40 for silicon (`scripts/bench zuo2020`). Which
of two cutoffs is better hardly depends on the number of functions, so few are enough to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from mlip_autopipec.ace.basis_size import (
    LENGTH_POWER,
    LONGEST_CUTOFF,
    NEIGHBOURS,
    RANK_STIFFNESS,
    choose_basis,
    cutoff_within,
)
from mlip_autopipec.ace.fitting import AceBasis
from mlip_autopipec.ace.linear import LabelledDesign, RowReducer, Triangle, solve, stiffness_of
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.smooth_radial import surroundings
from mlip_autopipec.core.interfaces import Design

COUNTS = (20, 28, NEIGHBOURS)
"""Numbers of neighbours whose distances are tried."""
_RUNG = 5
_FOLDS = 5
# So many rows tell the cutoffs apart; more only take longer.
_MOST_ROWS = 60_000


@dataclass(frozen=True)
class CutoffSearch:
    """What was found.

    Attributes
    ----------
    cutoff : the best one, A
    errors : cutoff -> geometric mean of the mean absolute errors of energies (eV per atom) and force components (eV/A)
        on labels left out, or that of the forces alone if no energy has a weight; empty if there was nothing to compare
    """

    cutoff: float
    errors: dict[float, float]


def best_cutoff(structures: Sequence[Atoms], labelled: Callable[[int, Design], LabelledDesign]) -> CutoffSearch:
    """Cross-validate some cutoffs.

    Parameters
    ----------
    labelled
        ``labelled(place, design)`` joins the design rows of a structure with its label and its weights.

    Raises
    ------
    DataError
        No atom has a neighbour, or a label is not finite.
    """
    around = surroundings(structures, LONGEST_CUTOFF)
    cutoffs = sorted({cutoff_within(around, count) for count in COUNTS})
    rows = sum(1 + 3 * len(atoms) for atoms in structures)
    places = list(range(0, len(structures), -(-rows // _MOST_ROWS)))
    if len(cutoffs) == 1 or len(places) < 2 * _FOLDS:
        return CutoffSearch(cutoffs[-1], {})
    errors = {cutoff: _error(structures, places, labelled, cutoff) for cutoff in cutoffs}
    return CutoffSearch(min(errors, key=lambda cutoff: errors[cutoff]), errors)


def _error(
    structures: Sequence[Atoms],
    places: Sequence[int],
    labelled: Callable[[int, Design], LabelledDesign],
    cutoff: float,
) -> float:
    used = [structures[place] for place in places]
    choice = choose_basis(used, sum(1 + 3 * len(atoms) for atoms in used), rung=_RUNG, cutoff=cutoff)
    basis = AceBasis(choice.configuration)
    stiffness = stiffness_of(basis.ranks, RANK_STIFFNESS)
    labels = [labelled(place, basis.design(structures[place])) for place in places]
    fold = np.random.default_rng(0).permutation(len(labels)) % _FOLDS
    reducers = [RowReducer(basis.n_coefficients) for _ in range(_FOLDS)]
    for label, number in zip(labels, fold, strict=True):
        reducers[number].add(*label.rows())
    parts = [reducer.triangle() for reducer in reducers]
    energies: list[float] = []
    forces: list[FloatArray] = []
    for left_out in range(_FOLDS):
        coefficients = solve(
            _joined(parts, left_out), stiffness, ridge=choice.ridge, length_power=LENGTH_POWER
        ).coefficients
        for label in (label for label, number in zip(labels, fold, strict=True) if number == left_out):
            if label.energy_weight > 0:
                energies.append(abs(float(label.design.energy @ coefficients) - label.energy) / len(label.learned))
            entering = label.learned & (np.asarray(label.force_weight) > 0)
            forces.append(np.abs(label.design.forces[entering] @ coefficients - label.forces[entering]).ravel())
    force = np.concatenate(forces)
    found = [float(np.mean(values)) for values in (energies, force) if len(values)]
    # Labels that a basis meets exactly are made, not measured.
    return float(np.exp(np.mean(np.log(np.maximum(found, 1e-12)))))


def _joined(parts: Sequence[Triangle], left_out: int) -> Triangle:
    reducer = RowReducer(parts[0].matrix.shape[1])
    for number, part in enumerate(parts):
        if number != left_out:
            reducer.merge(part)
    return reducer.triangle()
