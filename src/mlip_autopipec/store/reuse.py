"""A label that exists already: of this very task, refused by a window that may be wider now, or of a like structure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import IntArray, Label
from mlip_autopipec.core.likeness import matching
from mlip_autopipec.store.document import read_document
from mlip_autopipec.store.results import Results, check_result
from mlip_autopipec.store.task import Task
from mlip_autopipec.store.twins import Twins

REFUSED: Final = "refused.json"
# What the label cost, and what was thought of it, belongs to the one that was computed.
_OF_THE_FIRST: Final = frozenset({"seconds", "wall_s", "cores", "rungs", "flags"})


def known_label(task: Task, key: str, attempts: Path, results: Results) -> Label | None:
    """Return the label of a task that need not be computed; None if there is none.

    A task whose label a person had set aside (`queue requeue`) is always computed.

    Parameters
    ----------
    key
        `core.likeness.likeness_key` of its structure and settings.
    attempts
        Folder of the attempts at this task.
    """
    if results.was_superseded(task.id):
        return None
    if (record := _refused(task, attempts)) is not None:
        return _label(
            record, {**record["info"], "reused_from": task.id}, np.arange(len(record["forces"]), dtype=np.int32)
        )
    atoms = task.atoms()
    for record in _like(task, key, results):
        other = Task.from_dict(record["task"])
        order = matching(atoms, other.atoms()) if other.labeller == task.labeller else None
        if order is not None:
            info = {name: value for name, value in record["info"].items() if name not in _OF_THE_FIRST}
            return _label(record, {**info, "reused_from": other.id}, order)
    return None


def _refused(task: Task, attempts: Path) -> dict[str, Any] | None:
    """Return the newest label of this task that a window refused."""
    for path in sorted(attempts.glob(f"*/{REFUSED}"), reverse=True):
        try:
            record = check_result(read_document(path))
        except (DataError, OSError):
            continue
        if record["id"] == task.id:
            record["info"].pop("flags", None)
            return record
    return None


def _like(task: Task, key: str, results: Results) -> Iterator[dict[str, Any]]:
    for task_id in Twins(results).of(key):
        if task_id != task.id:
            try:
                yield results.read(task_id)
            except (FileNotFoundError, DataError):  # set aside, or damaged: not what a label may come from
                continue


def _label(record: dict[str, Any], info: dict[str, Any], order: IntArray) -> Label:
    """Return a record's label with its atoms in another order."""
    stress = None if record["stress"] is None else np.asarray(record["stress"], dtype=float)
    if info.get("moments") is not None:
        info = {**info, "moments": [info["moments"][i] for i in order]}
    return Label(float(record["energy"]), np.asarray(record["forces"], dtype=float)[order], stress, info)
