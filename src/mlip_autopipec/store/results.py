"""Results: the label's existence is the effect of a task, so each id's file can come into being only once."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlip_autopipec.core.errors import DataError, QueueError
from mlip_autopipec.core.files import fsync_directory
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.core.structure import TASK_ID_PATTERN, finite_array
from mlip_autopipec.store.document import dump_document, read_document, through_json, write_new
from mlip_autopipec.store.schema import RESULT_STEPS, upgraded
from mlip_autopipec.store.task import Task, check_time, is_finite_number

SCHEMA: Final = 1
_KEYS: Final = {"schema", "id", "task", "energy", "forces", "stress", "info", "worker", "finished"}


def make_result(task: Task, label: Label, worker: str, finished: str) -> dict[str, Any]:
    """Return the result record of one task.

    Parameters
    ----------
    label
        Energy eV, forces (N, 3) eV/A, stress (6,) eV/A^3 in ASE sign and order, or None.
    finished
        ISO 8601, UTC.

    Raises
    ------
    DataError
        The label does not fit the task, or a number is not finite.
    """
    record = {
        "schema": SCHEMA,
        "id": task.id,
        "worker": worker,
        "finished": finished,
        "energy": float(label.energy),
        "stress": None if label.stress is None else np.asarray(label.stress, dtype=float).tolist(),
        "forces": np.asarray(label.forces, dtype=float).tolist(),
        "info": through_json("result.info", dict(label.info)),
        "task": task.to_dict(),
    }
    return check_result(record)


def check_result(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record as a dict if it is a valid result; raise `DataError` otherwise."""
    record = upgraded("result", record, SCHEMA, RESULT_STEPS)
    if set(record) != _KEYS:
        raise DataError(f"result: keys {sorted(map(str, set(record) ^ _KEYS))} are missing or unknown")
    task = Task.from_dict(record["task"])
    if record["id"] != task.id:
        raise DataError(f"result.id: {record['id']!r}, but its task is {task.id}")
    if not is_finite_number(record["energy"]):
        raise DataError("result.energy: not a finite number")
    finite_array(record["forces"], (len(task.force_mask), 3), "result.forces")
    if record["stress"] is not None:
        finite_array(record["stress"], (6,), "result.stress")
    if not isinstance(record["info"], dict) or not isinstance(record["worker"], str):
        raise DataError("result: info is no object, or worker no text")
    check_time("result.finished", record["finished"])
    return {**record, "task": task.to_dict()}


class Results:
    """The folder of all results, `results/<id[:2]>/<id>.json`.

    Parameters
    ----------
    folder
        The run's `results/`.
    fsync
        Whether writes wait for the disk.
    check
        Returns a record as it is stored; raises `DataError` if it is no result of this kind.
    """

    def __init__(
        self,
        folder: Path,
        *,
        fsync: bool = True,
        check: Callable[[Mapping[str, Any]], dict[str, Any]] = check_result,
    ) -> None:
        self.folder = Path(folder)
        self._prefix = f"{self.folder}/"
        self.tmp = self.folder / "tmp"
        self.superseded = self.folder / "superseded"
        self._fsync = fsync
        self._check = check

    def path(self, task_id: str) -> Path:
        """Where the result of `task_id` is, or would be."""
        return self.folder / task_id[:2] / f"{task_id}.json"

    def exists(self, task_id: str) -> bool:
        """True if there is a result; this is what makes a task done."""
        # Asked at every claim, where joining paths would take longer than looking.
        return os.path.lexists(f"{self._prefix}{task_id[:2]}/{task_id}.json")

    def read(self, task_id: str) -> dict[str, Any]:
        """Return a checked result record.

        Raises
        ------
        FileNotFoundError
            There is none.
        DataError
            The file is damaged or belongs to another task.
        """
        record = self._check(read_document(self.path(task_id)))
        if record["id"] != task_id:
            raise DataError(f"results/{task_id}.json: is the result of {record['id']}")
        return record

    def write_once(self, task_id: str, record: Mapping[str, Any]) -> bool:
        """Write a result unless there is one.

        Returns
        -------
        bool
            True if this record is now the result, False if there already was one (it stays).

        Raises
        ------
        DataError
            The record is no valid result of `task_id`.
        QueueError
            The disk is full or the quota used up (transient: call again).
        """
        checked = self._check(record)
        if checked["id"] != task_id:
            raise DataError(f"result of {checked['id']} offered for task {task_id}")
        data = dump_document(checked).encode()
        final = self.path(task_id)
        for folder in (self.tmp, final.parent):
            folder.mkdir(parents=True, exist_ok=True)
        # A worker that slept for longer than a lease finds its temporary file swept away.
        for _ in range(3):
            if self.exists(task_id):
                return False
            temporary = self.tmp / f"{task_id}.{secrets.token_hex(6)}.tmp"
            try:
                write_new(temporary, data, fsync=self._fsync)
                return self._link(temporary, final)
            except FileNotFoundError:
                continue
            finally:
                with contextlib.suppress(OSError):
                    temporary.unlink()
        raise QueueError(
            f"result of {task_id} cannot be written", "who removes files from results/tmp/?", transient=True
        )

    def _link(self, temporary: Path, final: Path) -> bool:
        """Give the file its final name, which only the first can."""
        try:
            os.link(temporary, final)
        except OSError:
            # Over NFS a link can succeed and its reply be lost; a second name of my file says that it did.
            if temporary.stat().st_nlink == 2:
                mine = True
            elif os.path.lexists(final):
                mine = False
            else:
                raise
        else:
            mine = True
        if self._fsync:
            # Also by the loser: it goes on to move the task to done/, which must not outlive the result in a power cut.
            fsync_directory(final.parent)
        return mine

    def supersede(self, task_id: str) -> Path | None:
        """Set the result aside as `superseded/<id>.<n>.json`; return where, or None if there was none."""
        self.superseded.mkdir(parents=True, exist_ok=True)
        number = 1 + sum(1 for _ in self.superseded.glob(f"{task_id}.*.json"))
        target = self.superseded / f"{task_id}.{number}.json"
        try:
            os.rename(self.path(task_id), target)
        except FileNotFoundError:
            return None
        if self._fsync:
            fsync_directory(self.superseded)
        return target

    def was_superseded(self, task_id: str) -> bool:
        """True if a result of this task was set aside, because somebody wants it made anew."""
        return any(self.superseded.glob(f"{task_id}.*.json"))

    def editions(self) -> dict[str, int]:
        """Return task id -> number of its results that were set aside."""
        counts: dict[str, int] = {}
        for name in self._entries(self.superseded):
            task_id = name.split(".", 1)[0]
            if name.endswith(".json") and TASK_ID_PATTERN.fullmatch(task_id):
                counts[task_id] = counts.get(task_id, 0) + 1
        return counts

    def ids(self) -> Iterator[str]:
        """Iterate over the ids of all results."""
        for shard in sorted(self._entries(self.folder)):
            if len(shard) == 2:
                yield from self.ids_of_shard(shard)

    def ids_of_shard(self, shard: str) -> list[str]:
        """Return the ids of the results in one sub-folder."""
        names = self._entries(self.folder / shard)
        return [n[:-5] for n in names if n.endswith(".json") and TASK_ID_PATTERN.fullmatch(n[:-5])]

    @staticmethod
    def _entries(folder: Path) -> list[str]:
        try:
            return os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
