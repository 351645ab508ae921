"""task -> label -> result: reference energy, forces and stress of one task's structure.

Reads: a task that was claimed from `queue/dft`. Writes: inputs and outputs in `attempts/<task>/`; returns the record
that the worker writes to `results/<id>.json`. Next: `curate`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mlip_autopipec.core.clock import Clock, iso_time
from mlip_autopipec.core.errors import DataError, OutputUnreadable
from mlip_autopipec.core.interfaces import Label, Labeller
from mlip_autopipec.store.results import make_result
from mlip_autopipec.store.task import Task


def label_task(labeller: Labeller, task: Task, folder: Path, *, worker: str, clock: Clock) -> dict[str, Any]:
    """Label a task's structure and return the checked result record.

    Parameters
    ----------
    folder
        Existing folder of this attempt.
    worker
        Name that goes into the record.

    Raises
    ------
    DataError
        The task's mask does not fit its structure.
    EngineError
        There is no label, or it is not what it claims to be.
    """
    atoms = task.atoms()
    check_mask(task.force_mask, len(atoms))
    begin = clock.monotonic()
    label = labeller.label(atoms.copy(), folder)
    check_label(label, len(atoms))
    info = {**label.info, "labeller": labeller.name, "wall_s": round(clock.monotonic() - begin, 6)}
    checked = Label(label.energy, label.forces, label.stress, info)
    return make_result(task, checked, worker, iso_time(clock.wall()))


def check_mask(mask: list[int], n_atoms: int) -> None:
    """Refuse a mask that does not say of every atom whether it is learned, or learns none.

    Raises
    ------
    DataError
        Wrong length, other values than 0 and 1, or nothing to learn.
    """
    if len(mask) != n_atoms:
        raise DataError(f"force_mask: {len(mask)} entries for {n_atoms} atoms", "publish the structure again")
    if not set(mask) <= {0, 1}:
        raise DataError(f"force_mask: has values {sorted(set(mask) - {0, 1})}, only 0 and 1 mean something")
    if not any(mask):
        raise DataError("force_mask: all atoms are masked, so there is nothing to learn", "enlarge embedding.cutoff")


def check_label(label: Label, n_atoms: int) -> None:
    """Refuse a label with wrong shapes or numbers that are not finite.

    Raises
    ------
    OutputUnreadable
        What is wrong with it.
    """
    forces = np.asarray(label.forces, dtype=float)
    if forces.shape != (n_atoms, 3):
        raise OutputUnreadable(f"label.forces: shape {forces.shape}, expected {(n_atoms, 3)}")
    values = {"energy": np.asarray(label.energy, dtype=float), "forces": forces}
    if label.stress is not None:
        values["stress"] = np.asarray(label.stress, dtype=float)
        if values["stress"].shape != (6,):
            raise OutputUnreadable(f"label.stress: shape {values['stress'].shape}, expected (6,)")
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise OutputUnreadable(f"label.{name}: contains a number that is not finite", "look into attempts/<task>/")
