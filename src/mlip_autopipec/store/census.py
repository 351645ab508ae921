"""Where every task is: reads folder listings only, changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlip_autopipec.core.filesystem import is_gone
from mlip_autopipec.store.layout import Layout, id_in_name, task_name
from mlip_autopipec.store.results import Results

# Forward through a task's life: what moves on while we look is found further along.
_LIFE_ORDER: Final = ("pending", "delayed", "held", "running", "failed", "cancelled", "done", "corrupt")
ACTIVE_STATES: Final = tuple(s for s in _LIFE_ORDER if s != "done")
_DEPTH: Final = 4


@dataclass(frozen=True)
class Found:
    """One file in the folder of a state.

    Attributes
    ----------
    where : its path; kept as text, since most of a hundred thousand files are only counted
    parts : path relative to the state's folder
    task_id : from the file name; None if the name holds none
    """

    state: str
    where: str
    parts: tuple[str, ...]
    task_id: str | None

    @property
    def path(self) -> Path:
        return Path(self.where)

    @property
    def worker(self) -> str | None:
        """The worker's folder in `running/`, if it lies in one."""
        return self.parts[0] if self.state == "running" and len(self.parts) > 1 else None


def _walk(folder: str, parts: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Iterate over (path, parts below the first folder) of all files."""
    try:
        with os.scandir(folder) as handle:
            entries = list(handle)
    except OSError as error:
        if not is_gone(error):
            raise
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if len(parts) < _DEPTH and not entry.name.startswith("."):
                yield from _walk(entry.path, (*parts, entry.name))
        else:
            yield entry.path, (*parts, entry.name)


def _is_task_file(name: str) -> bool:
    """False for hidden files and other endings: they belong to editors and copying programs."""
    return name.endswith(".json") and not name.startswith(".")


class Census:
    """Finds tasks by state and by id."""

    def __init__(self, layout: Layout, results: Results) -> None:
        self._layout = layout
        self._results = results
        # Where an id was seen last: walkers ask for the same few ids again and again.
        self._seen: dict[str, tuple[str, Path]] = {}

    def files(self, state: str) -> Iterator[Found]:
        """Iterate over the task files of one state, in any depth below its folder."""
        for where, parts in _walk(str(self._layout.state_folder(state))):
            if _is_task_file(parts[-1]):
                yield Found(state, where, parts, id_in_name(parts[-1]))

    def done_shard(self, shard: str) -> Iterator[Found]:
        """Iterate over one sub-folder of `done/`."""
        for where, parts in _walk(str(self._layout.done / shard), (shard,)):
            if _is_task_file(parts[-1]):
                yield Found("done", where, parts, id_in_name(parts[-1]))

    def count(self, state: str) -> int:
        """Return the number of task files of one state."""
        return sum(_is_task_file(parts[-1]) for _, parts in _walk(str(self._layout.state_folder(state))))

    def find(self, task_id: str) -> tuple[str, Path] | None:
        """Return (state, path) of a task's file, or None if no state's folder has it."""
        seen = self._seen.get(task_id)
        if seen is not None and os.path.lexists(seen[1]):
            return seen
        # Twice: a file that was moved backwards during the first look (running -> pending) is seen by the second.
        for _ in range(2):
            for state in _LIFE_ORDER:
                if (path := self._find_in(state, task_id)) is not None:
                    self._seen[task_id] = (state, path)
                    return state, path
        self._seen.pop(task_id, None)
        return None

    def state(self, task_id: str) -> str | None:
        """Return a task's state; "done" as soon as its result exists, wherever its file is."""
        if self._results.exists(task_id):
            return "done"
        found = self.find(task_id)
        if found is None:
            # A result may have come while we looked; otherwise nobody knows this id.
            return "done" if self._results.exists(task_id) else None
        return found[0]

    def is_known(self, task_id: str, priority: float) -> bool:
        """True if an id that would be published with this priority is somewhere already.

        Costs the same at any number of tasks: looks for the names that the queue and the legal hand moves give. A file
        that was renamed in another way or lies too deep is found by the sweep, which removes one of the two.
        """
        layout = self._layout
        if self._results.exists(task_id):
            return True
        names = (task_name(priority, task_id), f"{task_id}.json")
        folders = (*self._buckets(), layout.done_path(task_id).parent, layout.failed, layout.cancelled)
        if any(os.path.lexists(folder / name) for folder in folders for name in names):
            return True
        return any(self._find_in(state, task_id) is not None for state in ("delayed", "held", "running", "corrupt"))

    def _buckets(self) -> list[Path]:
        """Return `pending/` and its folders."""
        try:
            with os.scandir(self._layout.pending) as entries:
                names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        return [self._layout.pending, *(self._layout.pending / name for name in names)]

    def matching(self, prefix: str) -> list[str]:
        """Return the ids, in order, that begin with `prefix`: of files in any state, or of results."""
        ids = {found.task_id for state in _LIFE_ORDER for found in self.files(state)} | set(self._results.ids())
        return sorted(task_id for task_id in ids if task_id and task_id.startswith(prefix))

    def _find_in(self, state: str, task_id: str) -> Path | None:
        """Look for an id in one state."""
        layout = self._layout
        places = {"done": layout.done_path, "failed": layout.failed_path, "cancelled": layout.cancelled_path}
        if state in places and os.path.lexists(path := places[state](task_id)):
            return path
        if state == "done":
            # Not all of them: there may be a million.
            candidates = [*_files_in(layout.done), *_files_in(layout.done_path(task_id).parent)]
        else:
            candidates = [where for where, _ in _walk(str(layout.state_folder(state)))]
        ending = f"{task_id}.json"
        for where in candidates:
            if where.endswith(ending) and id_in_name(os.path.basename(where)) == task_id:
                return Path(where)
        return None


def _files_in(folder: Path) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if not entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []
