"""Rows of the dataset that stay in memory: a refit after a few labels reads those few only."""

from __future__ import annotations

from mlip_autopipec.store.dataset import Dataset, DatasetRow


class KeptRows:
    """Reads a dataset again and again.

    Parameters
    ----------
    dataset
        It may grow, lose and replace rows, and be rebuilt as another file.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._file: int | None = None
        self._last = 0
        self._kept: dict[str, DatasetRow] = {}

    def rows(self) -> list[DatasetRow]:
        """Return all rows, oldest first."""
        stamp = self._dataset.stamp()
        file = stamp[0] if stamp else None
        if file != self._file:
            self._file, self._last, self._kept = file, 0, {}
        there = self._dataset.ingested()
        for number, row in self._dataset.numbered_rows(self._last):
            self._last = number
            # Not in the place of the label that it replaces: order is that of the file.
            self._kept.pop(row.task_id, None)
            self._kept[row.task_id] = row
            there.add(row.task_id)
        self._kept = {task: row for task, row in self._kept.items() if task in there}
        return list(self._kept.values())
