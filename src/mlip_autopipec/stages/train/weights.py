"""What labels weigh in a fit: groups, energy windows, and the balance of energies and forces.

With e and f as returned here, every trainer minimises

    sum over cells of N atoms  e (dE)^2 / N  +  sum over learned atoms  f |dF|^2.

Without a window and without kappa a label's weights depend on nothing but itself. Both else depend on the whole set, so
they come in two factors: one of the label alone, with which its rows are reduced once for all, and one per part of the
set (`Weighting.scales`), by which the reduced rows are multiplied when they are put together. Only the lowest energy,
from which a window is measured, would touch every label: it counts in steps, so that it hardly ever changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mlip_autopipec.ace.linear import LabelledDesign
from mlip_autopipec.core.interfaces import Design, FloatArray
from mlip_autopipec.stages.train.hull import lower_hull
from mlip_autopipec.stages.train.settings import TrainingSettings
from mlip_autopipec.store.dataset import DatasetRow

if TYPE_CHECKING:
    from mlip_autopipec.stages.train.errors import Prediction

# Of a window's width: steps in which the energy counts that a window is measured from.
_STEP = 0.25


class Part(NamedTuple):
    """Rows that one factor is for."""

    kind: str
    low: bool


ENERGIES, FORCES = "energies", "forces"


@dataclass(frozen=True)
class RowWeights:
    """Of one label.

    Attributes
    ----------
    energy : e
    forces : (N,) f; 0 for masked atoms
    low : whether the label is below the window's threshold
    """

    energy: float
    forces: FloatArray
    low: bool = True


class Weighting:
    """The weights of a set of labels.

    Parameters
    ----------
    isolated
        Energy of one free atom per element, eV.
    """

    def __init__(self, rows: Sequence[DatasetRow], settings: TrainingSettings, isolated: Mapping[str, float]) -> None:
        self._settings, self._isolated = settings, isolated
        self._bottom = self._bottoms(rows) if settings.energy_window else {}
        self.scales = self._scales(rows)

    @property
    def whole_set(self) -> bool:
        """Whether weights depend on other labels."""
        return self._settings.kappa is not None or self._settings.energy_window is not None

    def key(self, row: DatasetRow) -> float | None:
        """Return what of the set a label's own factor depends on: equal keys, equal rows."""
        return self._bottom.get(row.atoms.get_chemical_formula()) if self._bottom else None

    def of(self, row: DatasetRow) -> RowWeights:
        """Return the weights of a label of the set."""
        own = self._own(row)
        return RowWeights(
            own.energy * self.scales[Part(ENERGIES, own.low)],
            own.forces * self.scales[Part(FORCES, own.low)],
            own.low,
        )

    def parts(
        self, row: DatasetRow, design: Design, baseline: Callable[[DatasetRow], Prediction] | None = None
    ) -> Iterator[tuple[Part | None, LabelledDesign]]:
        """Yield the rows of a label with its own factors, and which part of the set each belongs to.

        Its weights follow from what it says, its targets are what `baseline` leaves of that.
        """
        own, known = self._own(row), baseline(row) if baseline is not None else None
        if not self.whole_set:
            yield None, labelled_design(row, design, own, self._isolated, known)
            return
        nothing = np.zeros_like(own.forces)
        for kind, weights in ((ENERGIES, RowWeights(own.energy, nothing)), (FORCES, RowWeights(0.0, own.forces))):
            yield Part(kind, own.low), labelled_design(row, design, weights, self._isolated, known)

    def _plain(self, row: DatasetRow) -> RowWeights:
        settings = self._settings
        factor = settings.group_weights.get(row.config_type, 1.0)
        energy = settings.energy_weight if row.whole else settings.masked_energy_weight
        return RowWeights(factor * energy, factor * settings.force_weight * np.asarray(row.learned, dtype=float))

    def _own(self, row: DatasetRow) -> RowWeights:
        plain, window = self._plain(row), self._settings.energy_window
        if window is None:
            return plain
        bottom = self._bottom[row.atoms.get_chemical_formula()]
        above = max(relative_energy(row, self._isolated) / len(row.atoms) - bottom, 0.0)
        factor = (window.width / (above + window.width)) ** 2
        squares = np.sum(np.where(row.learned[:, None], row.forces, 0.0) ** 2, axis=1)
        forces = plain.forces * factor * window.force_width**2 / (squares + window.force_width**2)
        return RowWeights(plain.energy * factor, forces, above < window.threshold)

    def _scales(self, rows: Sequence[DatasetRow]) -> dict[Part, float]:
        """Return the factors: shares of both sides of the threshold, the totals as without a window, then kappa."""
        parts = [Part(kind, low) for kind in (ENERGIES, FORCES) for low in (True, False)]
        if not self.whole_set:
            return dict.fromkeys(parts, 1.0)
        own = dict.fromkeys(parts, 0.0)
        plain = {ENERGIES: 0.0, FORCES: 0.0}
        for row in rows:
            weights = self._own(row)
            for kind, value in _totals(weights, len(row.atoms)).items():
                own[Part(kind, weights.low)] += value
            for kind, value in _totals(self._plain(row), len(row.atoms)).items():
                plain[kind] += value
        shares = self._shares(own)
        wanted = self._balanced(plain)
        total = {kind: sum(own[Part(kind, low)] * shares[low] for low in shares) for kind in plain}
        return {
            part: shares[part.low] * (wanted[part.kind] / total[part.kind] if total[part.kind] else 0.0)
            for part in parts
        }

    def _shares(self, own: Mapping[Part, float]) -> dict[bool, float]:
        window = self._settings.energy_window
        low, high = own[Part(ENERGIES, True)], own[Part(ENERGIES, False)]
        if window is None or window.low_share is None or low == 0 or high == 0:
            return {True: 1.0, False: 1.0}
        return {True: window.low_share / low, False: (1.0 - window.low_share) / high}

    def _balanced(self, plain: Mapping[str, float]) -> dict[str, float]:
        """Return the totals that kappa wants, of the same sum."""
        kappa, both = self._settings.kappa, plain[ENERGIES] + plain[FORCES]
        return dict(plain) if kappa is None else {ENERGIES: (1.0 - kappa) * both, FORCES: kappa * both}

    def _bottoms(self, rows: Sequence[DatasetRow]) -> dict[str, float]:
        """Return formula -> eV per atom, rounded down, from which a window is measured: the hull of whole cells."""
        window = self._settings.energy_window
        step = _STEP * window.width if window else 1.0
        known = [row for row in rows if row.whole] or list(rows)
        energies = [relative_energy(row, self._isolated) / len(row.atoms) for row in known]
        at = {row.atoms.get_chemical_formula(): row.atoms for row in rows}
        hull = lower_hull([row.atoms for row in known], energies, list(at.values()))
        return {formula: float(np.floor(value / step) * step) for formula, value in zip(at, hull, strict=True)}


def _totals(weights: RowWeights, n: int) -> dict[str, float]:
    """Return what pacemaker adds up: its energies are per atom, so their weights have another N."""
    return {ENERGIES: weights.energy * n, FORCES: float(weights.forces.sum())}


def labelled_design(
    row: DatasetRow,
    design: Design,
    weights: RowWeights,
    isolated: Mapping[str, float],
    baseline: Prediction | None = None,
) -> LabelledDesign:
    """Return what enters the fit of one label: what the baseline leaves of it."""
    return LabelledDesign(
        name=row.task_id,
        design=design,
        energy=relative_energy(row, isolated) - (baseline.energy if baseline else 0.0),
        forces=row.forces - baseline.forces if baseline else row.forces,
        learned=row.learned,
        energy_weight=weights.energy,
        force_weight=weights.forces,
    )


def relative_energy(row: DatasetRow, isolated: Mapping[str, float]) -> float:
    """Return the label's energy minus that of its atoms one by one, eV."""
    return row.energy - sum(isolated[symbol] * count for symbol, count in row.composition.items())
