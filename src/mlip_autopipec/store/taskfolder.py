"""Tasks that one walker keeps beside the queue: one file each, written once, so that a kill loses none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mlip_autopipec.core.files import write_text
from mlip_autopipec.core.structure import TASK_ID_PATTERN
from mlip_autopipec.store.document import dump_document
from mlip_autopipec.store.task import Task


class TaskFolder:
    """Task files `<id>.json` in one folder; only the walker that owns it writes.

    Parameters
    ----------
    folder
        Made at the first `add`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, task: Task) -> None:
        """Keep a task (idempotent)."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self._path(task.id), dump_document(task.to_dict()))

    def remove(self, task_id: str) -> None:
        """Forget a task (idempotent)."""
        self._path(task_id).unlink(missing_ok=True)

    def ids(self) -> list[str]:
        """Return the ids of the kept tasks."""
        if not self.folder.is_dir():
            return []
        names = (path.stem for path in self.folder.glob("*.json"))
        return sorted(name for name in names if TASK_ID_PATTERN.fullmatch(name))

    def read(self, task_id: str) -> Task:
        """Return a kept task.

        Raises
        ------
        FileNotFoundError, DataError
            It is not there, or damaged.
        """
        return Task.read(self._path(task_id))

    def tasks(self) -> Iterator[Task]:
        """Yield all kept tasks."""
        for task_id in self.ids():
            yield self.read(task_id)

    def count(self) -> int:
        """Return how many there are."""
        return len(self.ids())

    def _path(self, task_id: str) -> Path:
        return self.folder / f"{task_id}.json"


def is_in_any(walkers: Path, name: str, task_id: str) -> bool:
    """True if the folder `name` of any walker keeps this task.

    Parameters
    ----------
    walkers
        The run's `walkers/`.
    """
    return any(walkers.glob(f"*/{name}/{task_id}.json"))
