"""Which labels are of the same structure, whatever the order of its atoms, its place in the cell, or the mask.

`results/twins/<first two digits>/<key>-<id>` is an empty file for each label that was computed; the key is that of
`core.likeness`. An entry too few costs a label, one too many nothing: who uses one compares the structures.
"""

from __future__ import annotations

import os

from mlip_autopipec.core.structure import TASK_ID_PATTERN
from mlip_autopipec.store.results import Results


class Twins:
    """The index of all labels by likeness.

    Parameters
    ----------
    results
        Of the run.
    """

    def __init__(self, results: Results) -> None:
        self.folder = results.folder / "twins"

    def add(self, key: str, task_id: str) -> None:
        """Enter a label (idempotent)."""
        folder = self.folder / key[:2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{key}-{task_id}").touch()

    def of(self, key: str) -> list[str]:
        """Return the ids of the labels with this key."""
        try:
            names = os.listdir(self.folder / key[:2])
        except (FileNotFoundError, NotADirectoryError):
            return []
        ids = [name.removeprefix(f"{key}-") for name in names if name.startswith(f"{key}-")]
        return sorted(task_id for task_id in ids if TASK_ID_PATTERN.fullmatch(task_id))
