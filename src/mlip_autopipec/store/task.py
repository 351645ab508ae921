"""One labelling task: what to compute, and why it was asked for. Its file never changes; attempts live elsewhere."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.structure import (
    TASK_ID_PATTERN,
    checked_structure,
    content_id,
    structure_from_dict,
    structure_id,
    structure_to_dict,
)
from mlip_autopipec.store.document import read_document, through_json
from mlip_autopipec.store.layout import MAX_PRIORITY, id_in_name
from mlip_autopipec.store.schema import TASK_STEPS, upgraded

SCHEMA: Final = 1
KINDS: Final = ("dft", "explore")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Task:
    """One structure to be labelled.

    Attributes
    ----------
    schema : version of the file format
    id : 20 hexadecimal digits, the hash of structure, mask and labeller settings (so publishing twice is one task)
    kind : which queue it belongs to, "dft" or "explore"
    created : ISO 8601, UTC
    priority : extrapolation grade gamma (dimensionless, at least 0); larger is more urgent
    config_type : e.g. "active_learning", "bootstrap"
    origin : who asked: {"walker", "step", "version"} or {"source": "bootstrap"}
    labeller : settings of the labeller (or of the trajectory), with key "engine"; nothing that depends on a node
    force_mask : (N,) 1 = learned, 0 = masked
    structure : species, positions (N, 3) A, cell (3, 3) A, pbc (3,), as `core.structure`
    """

    # The order is the order in the file: what a person looks for first comes first.
    schema: int
    id: str
    kind: str
    created: str
    priority: float
    config_type: str
    origin: dict[str, Any]
    labeller: dict[str, Any]
    force_mask: list[int]
    structure: dict[str, Any]

    @classmethod
    def new(
        cls,
        atoms: Atoms,
        force_mask: Sequence[int],
        labeller: Mapping[str, Any],
        *,
        priority: float,
        origin: Mapping[str, Any],
        config_type: str,
        created: str,
        kind: str = "dft",
    ) -> Task:
        """Make a task with its id.

        Parameters
        ----------
        priority
            gamma; values above 1e9 (infinity included: "closer than anything seen") count as 1e9.

        Raises
        ------
        DataError
            A value is missing, not finite or of the wrong size.
        """
        # Through JSON, so that a task in memory equals the same task read from its file (tuples, numpy numbers).
        settings = through_json("labeller", dict(labeller))
        mask = [int(m) for m in force_mask]
        return cls.from_dict(
            {
                "schema": SCHEMA,
                "id": structure_id(atoms, mask, settings),
                "kind": kind,
                "created": created,
                "priority": min(float(priority), MAX_PRIORITY),
                "config_type": config_type,
                "origin": through_json("origin", dict(origin)),
                "labeller": settings,
                "force_mask": mask,
                "structure": structure_to_dict(atoms),
            }
        )

    def atoms(self) -> Atoms:
        """Return the structure as ASE atoms (a new object at each call)."""
        return structure_from_dict(self.structure)

    def to_dict(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Task:
        """Check everything and return the task.

        Raises
        ------
        DataError
            Unknown schema, missing or unknown key, wrong size or type, a number that is not finite, or an id that is
            not the hash of the content.
        """
        data = upgraded("task", data, SCHEMA, TASK_STEPS)
        _check_keys(data, _FIELDS)
        try:
            task = cls(**{**data, "structure": checked_structure(data["structure"])})
            _check_head(task)
            _check_mask(task.force_mask, len(task.structure["species"]))
            # Rewritten content under an old id would give that id a foreign label.
            if content_id(task.structure, task.force_mask, task.labeller) != task.id:
                raise DataError(
                    f"task {task.id}: the id does not belong to this structure, mask and labeller",
                    "task files are never edited; publish a new task instead",
                )
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise DataError(f"task: {error}") from error
        return task

    @classmethod
    def read(cls, path: Path) -> Task:
        """Read and check a task file.

        Raises
        ------
        FileNotFoundError
            The file is not there (any more).
        DataError
            It is not a valid task, or the id in its name is another one.
        """
        task = cls.from_dict(read_document(path))
        if id_in_name(path.name) != task.id:
            raise DataError(f"{path.name}: holds task {task.id}", f"rename it to {task.id}.json")
        return task


_FIELDS: Final = tuple(field.name for field in fields(Task))
# Refuses NaN and infinity.
_encode = json.JSONEncoder(allow_nan=False).encode


def _check_keys(data: Mapping[str, Any], wanted: tuple[str, ...]) -> None:
    if data.keys() == set(wanted):
        return
    if missing := sorted(set(wanted) - set(data)):
        raise DataError(f"task: key {missing[0]!r} is missing")
    raise DataError(f"task: unknown key {min(set(data) - set(wanted), key=str)!r}")


def _check_head(task: Task) -> None:
    if not isinstance(task.id, str) or not TASK_ID_PATTERN.fullmatch(task.id):
        raise DataError(f"task.id: {task.id!r} is not 20 hexadecimal digits")
    if task.kind not in KINDS:
        raise DataError(f"task.kind: {task.kind!r}, known are {', '.join(KINDS)}")
    if not isinstance(task.config_type, str) or not _WORD.fullmatch(task.config_type):
        raise DataError(f"task.config_type: {task.config_type!r} is not a word")
    check_time("task.created", task.created)
    priority = task.priority
    if isinstance(priority, bool) or not isinstance(priority, int | float) or not 0 <= priority <= MAX_PRIORITY:
        raise DataError(f"task.priority: {priority!r} is not a number from 0 to {MAX_PRIORITY:g}")
    for name, value in (("origin", task.origin), ("labeller", task.labeller)):
        if not isinstance(value, dict):
            raise DataError(f"task.{name}: not an object")
        _encode(value)
    if not isinstance(task.labeller.get("engine"), str):
        raise DataError("task.labeller.engine: missing")


def _check_mask(mask: Any, n_atoms: int) -> None:
    if not isinstance(mask, list) or set(map(type, mask)) != {int} or not set(mask) <= {0, 1}:
        raise DataError("task.force_mask: not a list of 0 and 1")
    if len(mask) != n_atoms:
        raise DataError(f"task.force_mask: {len(mask)} values for {n_atoms} atoms")


def check_time(name: str, value: Any) -> None:
    """Raise `DataError` unless `value` is a time in ISO 8601."""
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: {value!r} is not a time in ISO 8601") from error


def is_finite_number(value: Any) -> bool:
    """True for an int or float (not bool) that is finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
