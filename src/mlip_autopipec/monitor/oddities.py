"""Labels that stand twice in the training set, and those that are far from all others. Read-only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from mlip_autopipec.core.likeness import likeness_key, matching
from mlip_autopipec.store.dataset import DatasetRow

# Robust standard deviations; forces of a melt beside a crystal's reach 5.
_FAR: Final = 8.0
# What spreads less is the same: eV/atom, and the natural logarithm of a force.
_FLOORS: Final = {"energy_per_atom": 5e-3, "rms_force": 0.2}
_UNITS: Final = {"energy_per_atom": "eV/atom", "rms_force": "eV/A"}
_FEWEST: Final = 8
_NORMAL: Final = 1.4826  # median absolute deviation -> standard deviation of a normal distribution


def duplicates(rows: Sequence[DatasetRow]) -> list[list[str]]:
    """Return groups of labels of the same structure, whatever the order of its atoms, its origin or its mask."""
    groups: dict[str, list[DatasetRow]] = defaultdict(list)
    for row in rows:
        groups[likeness_key(row.atoms, {})].append(row)
    found = []
    for first, *others in groups.values():
        same = [row.task_id for row in others if matching(first.atoms, row.atoms) is not None]
        if same:
            found.append([first.task_id, *same])
    return found


def outliers(rows: Sequence[DatasetRow]) -> list[dict[str, Any]]:
    """Return labels whose energy per atom, among those of one composition, or force is far from the median; JSON-ready.

    By the median absolute deviation, doi:10.1016/j.jesp.2013.03.013; forces by the logarithm of their root mean square.
    """
    by_composition: dict[tuple[tuple[str, float], ...], list[DatasetRow]] = defaultdict(list)
    for row in rows:
        symbols, counts = np.unique(row.atoms.get_chemical_symbols(), return_counts=True)
        shares = (counts / len(row.atoms)).round(3).tolist()
        by_composition[tuple(zip(symbols.tolist(), shares, strict=True))].append(row)
    found = []
    for members in by_composition.values():
        whole = [row for row in members if row.whole]
        found += _far(whole, "energy_per_atom", np.array([row.energy / len(row.atoms) for row in whole]))
    learned = [row for row in rows if row.learned.any()]
    forces = np.array([np.sqrt(np.mean(row.forces[row.learned] ** 2)) for row in learned])
    # A crystal at rest is no outlier, however small its forces are.
    return found + _far(learned, "rms_force", forces, log=True)


def _far(rows: Sequence[DatasetRow], name: str, values: Any, *, log: bool = False) -> list[dict[str, Any]]:
    if len(rows) < _FEWEST:
        return []
    shown = np.log(np.maximum(values, 1e-3)) if log else values
    median = float(np.median(shown))
    spread = max(_NORMAL * float(np.median(np.abs(shown - median))), _FLOORS[name])
    away = (shown - median) / spread
    chosen = np.flatnonzero(away > _FAR if log else np.abs(away) > _FAR)
    return [
        {
            "label": rows[int(i)].task_id,
            "quantity": f"{name} ({_UNITS[name]})",
            "value": float(values[i]),
            "median": float(np.exp(median)) if log else median,
            "deviations": float(away[i]),
        }
        for i in chosen
    ]
