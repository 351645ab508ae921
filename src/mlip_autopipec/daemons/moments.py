"""Watches the magnetic moments of neighbouring labels: an SCF that fell into another magnetic state is flagged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from mlip_autopipec.stages.curate import Moments, mean_moments, moment_jump
from mlip_autopipec.store.dataset import DatasetRow

FLAG = "moment_jump"


@dataclass(frozen=True)
class _Seen:
    task_id: str
    step: float
    means: Moments


class MomentWatch:
    """Knows the labels of each walker, and compares a new one with the nearest in time.

    Parameters
    ----------
    threshold
        Bohr magnetons per atom of an element.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._seen: dict[tuple[str, frozenset[str]], list[_Seen]] = {}

    def load(self, rows: Iterable[DatasetRow]) -> None:
        """Forget everything, and remember the rows of the dataset."""
        self._seen.clear()
        for row in rows:
            self._remember(row)

    def judged(self, rows: Iterable[DatasetRow]) -> list[DatasetRow]:
        """Return new rows with a flag where the moments jump, in the order of their steps, and remember them."""
        return [self._judged(row) for row in sorted(rows, key=lambda row: (str(row.origin.get("walker")), _step(row)))]

    def _judged(self, row: DatasetRow) -> DatasetRow:
        others = [seen for seen in self._seen.get(_kind(row), []) if seen.task_id != row.task_id]
        self._remember(row)
        if row.moments is None or not others:
            return row
        nearest = min(others, key=lambda seen: abs(seen.step - _step(row)))
        told = moment_jump(mean_moments(row), nearest.means, self._threshold)
        if not told:
            return row
        return replace(row, flags={**row.flags, FLAG: f"{told} (label {nearest.task_id}, step {nearest.step:g})"})

    def _remember(self, row: DatasetRow) -> None:
        if row.moments is not None and isinstance(row.origin.get("walker"), str):
            known = [seen for seen in self._seen.get(_kind(row), []) if seen.task_id != row.task_id]
            self._seen[_kind(row)] = [*known, _Seen(row.task_id, _step(row), mean_moments(row))]


def _kind(row: DatasetRow) -> tuple[str, frozenset[str]]:
    return str(row.origin.get("walker")), frozenset(row.composition)


def _step(row: DatasetRow) -> float:
    step = row.origin.get("step")
    return float(step) if isinstance(step, int | float) else 0.0
