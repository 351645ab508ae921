"""Labels that the dataset did not take, each with the reason. Written by the trainer, read by waiting walkers."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import read_json, write_json
from mlip_autopipec.store.rundir import RunDirectory

DROPPED: Final = "dropped by hand"
"""How the reason of a label begins that a person refused: it stays so when the database is made anew."""


def read_refusals(run: RunDirectory) -> dict[str, str]:
    """Return task id -> reason of every refused label.

    Raises
    ------
    DataError
        The file is damaged.
    """
    try:
        content = read_json(run.refusals)
    except FileNotFoundError:
        return {}
    if not isinstance(content, dict):
        raise DataError(
            f"{run.refusals}: not a mapping of task ids to reasons", "remove it; the labels are checked again"
        )
    return {str(task_id): str(reason) for task_id, reason in content.items()}


def add_refusals(run: RunDirectory, reasons: Mapping[str, str]) -> None:
    """Add task id -> reason (idempotent)."""
    if reasons:
        write_json(run.refusals, {**read_refusals(run), **reasons})


def remove_refusals(run: RunDirectory, task_ids: Collection[str]) -> None:
    """Forget `task_ids` (idempotent)."""
    known = read_refusals(run)
    if set(task_ids) & set(known):
        write_json(run.refusals, {task_id: reason for task_id, reason in known.items() if task_id not in task_ids})
