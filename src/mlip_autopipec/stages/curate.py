"""result -> curate: checked, deduplicated label -> dataset.

Reads: result records of `results/`, labelled start structures. Writes: rows for `dataset.db`; what is refused keeps its
result file, and its reason goes to `refusals.json`. Next: `train`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.structure import structure_id
from mlip_autopipec.store.dataset import DatasetRow
from mlip_autopipec.store.task import Task


def row_of_result(record: Mapping[str, Any], labeller: Mapping[str, Any], *, force_limit: float) -> DatasetRow:
    """Return the dataset row of a result.

    Parameters
    ----------
    record
        As `store.results` checked it.
    labeller
        Label settings of this run, as they stand in its task files.
    force_limit
        eV/A.

    Raises
    ------
    DataError
        The label was made with other settings, or a learned force is larger than `force_limit`.
    """
    task = Task.from_dict(record["task"])
    if task.labeller != dict(labeller):
        raise DataError(
            f"label {task.id}: made with other settings ({_difference(task.labeller, labeller)})",
            "one potential never mixes label settings: start a new run",
        )
    row = DatasetRow(
        task_id=task.id,
        atoms=task.atoms(),
        energy=float(record["energy"]),
        forces=np.asarray(record["forces"], dtype=float),
        stress=None if record["stress"] is None else np.asarray(record["stress"], dtype=float),
        force_mask=tuple(task.force_mask),
        config_type=task.config_type,
        uncertainty_gamma=task.priority,
        origin=task.origin,
    )
    check_forces(row, force_limit)
    return row


def row_of_frame(atoms: Atoms, number: int, labeller: Mapping[str, Any], *, force_limit: float) -> DatasetRow:
    """Return the dataset row of a start structure that came with energy and forces.

    Its id is that of the task which would label it, so a structure that is given and labelled is one row. An array
    `force_mask` says which atoms are learned (default: all), `info["config_type"]` what kind of structure it is.

    Parameters
    ----------
    number
        Position of the frame in its file, for messages and origin.

    Raises
    ------
    DataError
        A number is not finite, the mask is not one of 0 and 1, or a learned force is larger than `force_limit` (eV/A).
    """
    if wrong := not_finite(atoms):
        raise DataError(f"start.dataset: frame {number}: {wrong}: not finite", "remove the frame, or label it again")
    mask = [int(m) for m in atoms.arrays.get("force_mask", np.ones(len(atoms), dtype=int))]
    if not set(mask) <= {0, 1} or not any(mask):
        raise DataError(f"start.dataset: frame {number}: force_mask needs 0 and 1, and one 1 at least")
    plain = Atoms(atoms.get_chemical_symbols(), positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    stress = atoms.calc.results.get("stress")
    row = DatasetRow(
        task_id=structure_id(plain, mask, labeller),
        atoms=plain,
        energy=float(atoms.get_potential_energy()),
        forces=np.asarray(atoms.get_forces(apply_constraint=False), dtype=float),
        stress=None if stress is None or not plain.pbc.all() else _voigt(np.asarray(stress, dtype=float)),
        force_mask=tuple(mask),
        config_type=str(atoms.info.get("config_type", "bootstrap")),
        origin={"source": "start.dataset", "number": number},
    )
    check_forces(row, force_limit)
    return row


def not_finite(atoms: Atoms) -> str | None:
    """Return which quantity of a structure and its label, if it has one, is NaN or infinite; None if none is."""
    said = {} if atoms.calc is None else atoms.calc.results
    named = {"positions": atoms.positions, "cell": np.asarray(atoms.cell)}
    named |= {key: said[key] for key in ("energy", "forces", "stress") if said.get(key) is not None}
    return next((key for key, values in named.items() if not np.isfinite(np.asarray(values, dtype=float)).all()), None)


def check_forces(row: DatasetRow, force_limit: float) -> None:
    """Refuse forces that no fit should learn: atoms on top of each other, wrong units.

    Raises
    ------
    DataError
        A learned force is larger than `force_limit`, or nothing is learned.
    """
    if not row.learned.any():
        raise DataError(f"label {row.task_id}: all atoms are masked, so there is nothing to learn")
    largest = float(np.linalg.norm(row.forces[row.learned], axis=1).max())
    if not largest <= force_limit:
        raise DataError(
            f"label {row.task_id}: a force of {largest:.3g} eV/A is above training.force_limit {force_limit:g} eV/A",
            "look at the structure; raise the limit if it is meant",
        )


def _voigt(stress: np.ndarray) -> np.ndarray:
    if stress.shape == (3, 3):
        return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    return stress


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    keys: Sequence[str] = sorted(k for k in {*theirs, *ours} if theirs.get(k) != ours.get(k))
    return ", ".join(f"{key} {theirs.get(key)!r} instead of {ours.get(key)!r}" for key in keys)
