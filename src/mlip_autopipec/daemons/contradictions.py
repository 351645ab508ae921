"""Labels that contradict all the others: wrong units, forces of other atoms, a lost electron.

A label is judged by what the others leave of it (`ace.outliers`), so one that stands alone in a new region is not
blamed for being new. Two things must come together: it is far from what is usual in this fit, and what is wrong with
it is a good part of what it says. Of 232 labels of eight runs of EMT aluminium the farthest was at 7 times the
median and 0.4 of its forces, of molybdenum (Zuo et al. 2020, doi:10.1021/acs.jpca.9b08723) at 3 times and 0.2; forces
of other atoms, or in another unit, are at 7 times and 0.7, or at 30 times. Energies stay below 4 times the median;
10 eV too much are at 22 times.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from mlip_autopipec.ace.linear import Fit, LabelledDesign
from mlip_autopipec.ace.outliers import studentised
from mlip_autopipec.core.interfaces import Design
from mlip_autopipec.stages.train import (
    Prediction,
    Trained,
    TrainingSettings,
    Weighting,
    labelled_design,
    relative_energy,
)
from mlip_autopipec.store.dataset import DatasetRow

# Of fewer labels none can be said to be unlike the others.
_FEWEST: Final = 8
# So few are all judged in full.
_FEW: Final = 40
# Times the median, and share of the label's own forces: either pair is enough.
_FORCES: Final = ((4.0, 0.6), (12.0, 0.3))
_ENERGY_FACTOR: Final = 8.0
_LEAST_ENERGY: Final = 0.02  # eV per atom


@dataclass(frozen=True)
class _Misfit:
    """How far one label is off: `forces` eV/A and `energy` eV per atom, studentised; `size` of its forces, eV/A."""

    forces: float
    size: float
    energy: float


def not_finite(row: DatasetRow) -> str:
    """Return which number of a row that may enter a fit is NaN or infinite; empty if none is."""
    named = {"positions": row.atoms.positions, "energy": row.energy, "forces": row.forces[row.learned]}
    wrong = [name for name, values in named.items() if not np.isfinite(values).all()]
    return f"label {row.task_id}: {wrong[0]} not finite" if wrong else ""


def contradicting(
    rows: Sequence[DatasetRow],
    judged: Collection[str],
    trained: Trained,
    settings: TrainingSettings,
    isolated: Mapping[str, float],
    design_of: Callable[[DatasetRow], Design],
) -> dict[str, str]:
    """Return task id -> reason of the label that contradicts the others most; empty if none does.

    One at a time, since a label that is far off makes others look wrong: fit again without it, and ask again.

    Parameters
    ----------
    rows
        All that entered the fit.
    judged
        Task ids that may be named; the others were judged when they came.
    """
    if len(rows) < _FEWEST or not judged:
        return {}
    weighting = Weighting(rows, settings, isolated)
    found = {}
    for row in rows:
        said = trained.predictions[row.task_id]
        # Old labels weigh little each: among many, their residuals are as good, and cost nothing.
        fully = row.task_id in judged or len(rows) <= _FEW
        label = labelled_design(row, design_of(row), weighting.of(row), isolated) if fully else None
        found[row.task_id] = _misfit(row, said, relative_energy(row, isolated), label, trained.fit)
    forces = float(np.median([misfit.forces for misfit in found.values()]))
    energies = [misfit.energy for misfit in found.values() if np.isfinite(misfit.energy)]
    energy = max(_LEAST_ENERGY, _ENERGY_FACTOR * float(np.median(energies))) if energies else np.inf
    worst, reason = 1.0, {}
    for task_id in judged:
        misfit = found[task_id]
        share, times = misfit.forces / misfit.size, misfit.forces / (forces or np.inf)
        off = max((times / factor for factor, least in _FORCES if share >= least), default=0.0)
        off_energy = misfit.energy / energy if np.isfinite(misfit.energy) else 0.0
        if max(off, off_energy) > worst:
            worst, reason = max(off, off_energy), {task_id: _told(task_id, misfit, forces, by_energy=off_energy > off)}
    return reason


def _misfit(row: DatasetRow, said: Prediction, energy: float, label: LabelledDesign | None, fit: Fit) -> _Misfit:
    """Return the misfit of one label: studentised with its rows `label`, the plain residuals without them."""
    learned, n = row.learned, len(row.atoms)
    missed = (row.forces - said.forces)[learned].ravel()
    forces, off = _rms(missed), abs(energy - said.energy) / n
    if label is not None:
        # Leverage is a matter of the rows as they are weighted in the fit.
        weights = np.repeat(np.sqrt(np.broadcast_to(label.force_weight, n)[learned]), 3)
        rows = label.design.forces[learned].reshape(-1, len(fit.coefficients)) * weights[:, None]
        forces = studentised(rows, missed, fit.influence)
        weighted = np.sqrt(label.energy_weight / n) * label.design.energy[None, :]
        off = studentised(weighted, np.array([energy - said.energy]), fit.influence) / n
    size = max(_rms(row.forces[learned]), _rms(said.forces[learned]), np.finfo(float).tiny)
    return _Misfit(forces, size, off if row.whole else np.nan)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else 0.0


def _told(task_id: str, misfit: _Misfit, usual: float, *, by_energy: bool) -> str:
    if by_energy:
        what = f"its energy is {misfit.energy:.3g} eV/atom away from what the other labels say"
    else:
        what = (
            f"its forces (RMS {misfit.size:.3g} eV/A) are {misfit.forces:.3g} eV/A away from what the other labels say "
            f"(usual: {usual:.2g})"
        )
    return f"label {task_id}: {what}: wrong units, atoms in another order, another electronic state?"
