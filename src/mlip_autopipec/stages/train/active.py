"""Atoms whose B-projections an active set is selected from: those that entered the fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from mlip_autopipec.core.interfaces import Design, FloatArray, LinearBasis
from mlip_autopipec.stages.train.settings import TrainingSettings
from mlip_autopipec.store.dataset import DatasetRow


def active_rows(
    rows: Sequence[DatasetRow],
    basis: LinearBasis,
    settings: TrainingSettings,
    design_of: Callable[[DatasetRow], Design],
) -> dict[str, FloatArray]:
    """Return per element (n, k) the B-projections of the atoms whose force, or whose cell's energy, entered the fit.

    An element without such an atom is left out.
    """
    found: dict[str, list[FloatArray]] = {element: [] for element in basis.elements}
    for row in rows:
        entered = _entered(row, settings)
        for element, (members, values) in design_of(row).projections.items():
            found[element].append(values[entered[members]])
    return {element: np.concatenate(values) for element, values in found.items() if values}


def count_active_rows(rows: Sequence[DatasetRow], settings: TrainingSettings) -> dict[str, int]:
    """Return per element how many rows `active_rows` gives."""
    entered = [row.atoms.numbers[_entered(row, settings)] for row in rows] or [np.zeros(0, dtype=int)]
    numbers, counts = np.unique(np.concatenate(entered), return_counts=True)
    return {chemical_symbols[number]: int(count) for number, count in zip(numbers, counts, strict=True)}


def _entered(row: DatasetRow, settings: TrainingSettings) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.ones(len(row.atoms), dtype=bool) if settings.teaches_energy(whole=row.whole) else row.learned
