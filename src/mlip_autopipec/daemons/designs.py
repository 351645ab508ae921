"""Design rows that a trainer's child keeps from fit to fit."""

from __future__ import annotations

from collections.abc import Sequence

from mlip_autopipec.ace.growing import GrowingRows, GrowingSet
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Design, LinearBasis
from mlip_autopipec.store.dataset import DatasetRow

_CACHE_BYTES = 1_000_000_000


class DesignCache:
    """Design rows by task id, up to a size in bytes.

    What came first stays: fits read all rows in turn, and would find none of them if the longest unused went.
    """

    def __init__(self, basis: LinearBasis, limit: int = _CACHE_BYTES) -> None:
        self.basis = basis
        self.growing = GrowingRows(basis.n_coefficients)
        self._growing_sets: dict[str, GrowingSet] = {}
        self._limit = limit
        self._kept: dict[str, Design] = {}
        self._size = 0

    def __call__(self, row: DatasetRow) -> Design:
        found = self._kept.get(row.task_id)
        if found is None:
            found = self.basis.design(row.atoms)
            if self._size + _size(found) <= self._limit:
                self._kept[row.task_id] = found
                self._size += _size(found)
        return found

    def growing_set(self, element: str) -> GrowingSet:
        """Return the active set of an element that goes on from fit to fit."""
        return self._growing_sets.setdefault(element, GrowingSet())


def usable(rows: Sequence[DatasetRow], designs: DesignCache) -> tuple[list[DatasetRow], dict[str, str]]:
    """Compute all design rows: return the rows that have some, and task id -> why another has none."""
    usable: list[DatasetRow] = []
    unusable: dict[str, str] = {}
    for row in rows:
        try:
            designs(row)
            usable.append(row)
        except ModelError as error:
            unusable[row.task_id] = str(error)
    return usable, unusable


def _size(design: Design) -> int:
    projections = sum(values.nbytes for _, values in design.projections.values())
    return int(design.forces.nbytes + projections)
