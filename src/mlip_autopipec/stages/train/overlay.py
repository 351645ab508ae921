"""The baseline that MD adds to ACE: which one, and what it says of labels, so that the fit learns the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from mlip_autopipec.ace.baseline import Pair, untrained_distance
from mlip_autopipec.ace.overlay import LennardJones, Overlay, check_overlay, pair_of
from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.stages.train.errors import Prediction
from mlip_autopipec.stages.train.settings import TrainingSettings
from mlip_autopipec.store.dataset import DatasetRow

# Of the shortest trained distance, where ZBL ends: it is harder than most bonds, and what ACE learns to take off from
# it goes on below that distance, as a pull.
_ZBL_INNER: Final = 0.8
# eV; at 0.79 of sigma the wall is 5 eV high, at 0.59 it is 200: more than ACE has there to pull with.
_EPSILON: Final = 0.1
# A; in such steps a shorter trained distance counts, since every change of the baseline changes all targets.
_STEP: Final = 0.05
# Of sigma: the minimum of Lennard-Jones, where force and shifted energy are zero.
_MINIMUM: Final = 2.0 ** (1.0 / 6.0)

_NOTHING: Final = Prediction(0.0, np.zeros(3))


class Baseline:
    """What MD adds to ACE, and what that says of labels; each one is computed once.

    Parameters
    ----------
    overlay
        None: nothing is added.
    elements
        Of the potential.
    """

    def __init__(self, overlay: Overlay | None = None, elements: Sequence[str] = ()) -> None:
        self.overlay = overlay
        self.elements = tuple(elements)
        self._known: dict[str, Prediction] = {}

    def __call__(self, row: DatasetRow) -> Prediction:
        """Return energy (eV) and forces (N, 3) eV/A of a label's structure."""
        if self.overlay is None:
            return _NOTHING
        if row.task_id not in self._known:
            frame = neighbourhood(row.atoms, self.overlay.cutoff, self.elements)
            found = self.overlay.evaluate(frame, self.elements)
            self._known[row.task_id] = Prediction(found.energy, found.forces)
        return self._known[row.task_id]


NO_BASELINE: Final = Baseline()


def wanted_overlay(
    settings: TrainingSettings, elements: Sequence[str], shortest: Mapping[Pair, float], reach: float
) -> Overlay | None:
    """Return what the settings want to be added to ACE; None if nothing, or what stands in the file itself.

    Parameters
    ----------
    shortest
        Pair of elements -> shortest distance in the training set, A.
    reach
        Cutoff of the potential, A.

    Raises
    ------
    ConfigError
        The cutoff of a pair is beyond `reach`, or a pair has an element that is not in the run.
    """
    if settings.form_of_baseline != "overlay":
        return None
    try:
        if settings.baseline == "zbl":
            overlay = Overlay(zbl=settings.zbl_cutoffs or _zbl_cutoffs(elements, shortest))
        else:
            overlay = Overlay(pairs=_pairs(settings, sorted(elements), shortest))
        check_overlay(overlay, reach)
    except ValueError as error:
        key = "zbl_cutoffs" if settings.baseline == "zbl" else "lj_pairs"
        raise ConfigError(f"training.{key}: {error}", "correct it, or leave it out") from error
    return overlay


def _zbl_cutoffs(elements: Sequence[str], shortest: Mapping[Pair, float]) -> tuple[float, float]:
    """Return A: LAMMPS' zbl has one pair of cutoffs for all pairs, so the pair that is farthest apart decides."""
    outer = max(_nearest(first, second, shortest) for first in elements for second in elements)
    return round(_ZBL_INNER * outer, 9), outer


def _nearest(first: str, second: str, shortest: Mapping[Pair, float]) -> float:
    """Return the shortest trained distance of two elements, rounded down, or what stands for it, A."""
    pair = (first, second) if first <= second else (second, first)
    return round(_STEP * math.floor(shortest.get(pair, untrained_distance(*pair)) / _STEP), 9)


def _pairs(
    settings: TrainingSettings, elements: Sequence[str], shortest: Mapping[Pair, float]
) -> tuple[LennardJones, ...]:
    given = {pair_of(name, elements): pair for name, pair in settings.lj_pairs.items()}
    found = []
    for place, first in enumerate(elements):
        for second in elements[place:]:
            pair = given.get((first, second))
            if pair is None:
                epsilon, sigma, cutoff = _EPSILON, _nearest(first, second, shortest), None
            else:
                epsilon, sigma, cutoff = pair.epsilon, pair.sigma, pair.cutoff
            found.append(LennardJones((first, second), epsilon, sigma, cutoff or _MINIMUM * sigma))
    return tuple(found)
