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
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.core.structure import energy_of_forces, finite_array, structure_id
from mlip_autopipec.core.windows import check_energy, check_force, energy_per_atom
from mlip_autopipec.store.dataset import DatasetRow
from mlip_autopipec.store.sides import brought
from mlip_autopipec.store.task import Task

# Element -> (mean size of the magnetic moments, size of their mean), Bohr magnetons per atom.
Moments = Mapping[str, tuple[float, float]]


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
        moments=_moments(record),
        flags=_flags(record),
    )
    check_forces(row, force_limit)
    return row


def _moments(record: Mapping[str, Any]) -> FloatArray | None:
    moments = record["info"].get("moments")
    if moments is None:
        return None
    return finite_array(moments, (len(record["forces"]),), f"label {record['id']}: info.moments")


def _flags(record: Mapping[str, Any]) -> dict[str, str]:
    flags = record["info"].get("flags", {})
    if not isinstance(flags, dict):
        raise DataError(f"label {record['id']}: info.flags is no object", "results are never edited by hand")
    return {str(name): str(told) for name, told in flags.items()}


def mean_moments(row: DatasetRow) -> Moments:
    """Return element -> (mean size of the moments, size of their mean), Bohr magnetons per atom; empty without spin."""
    if row.moments is None:
        return {}
    symbols = np.asarray(row.atoms.get_chemical_symbols())
    by_element = {str(element): row.moments[symbols == element] for element in set(symbols.tolist())}
    return {element: (float(np.abs(m).mean()), float(abs(m.mean()))) for element, m in by_element.items()}


def moment_jump(ours: Moments, theirs: Moments, threshold: float) -> str:
    """Return how the magnetic moments of two labels differ; empty if they hardly do.

    Compared are the mean of the moments' sizes, which spin transitions change, and the size of their mean, which a
    change of the magnetic order does.

    Parameters
    ----------
    ours, theirs
        As `mean_moments` returns them.
    threshold
        Bohr magnetons per atom of an element.
    """
    jumps = []
    for element in sorted(set(ours) & set(theirs)):
        for word, mine, other in zip(("moment", "net moment"), ours[element], theirs[element], strict=True):
            if abs(mine - other) > threshold:
                jumps.append(f"{word} of {element} {mine:.2f} instead of {other:.2f} Bohr magnetons per atom")
    return "; ".join(jumps)


def left_out(
    row: DatasetRow, isolated: Mapping[str, float], window: tuple[float, float], *, use_changed_smearing: bool
) -> str:
    """Return why a row takes no part in the fit; empty if it does.

    Parameters
    ----------
    isolated
        Energies of free atoms, eV.
    window
        eV per atom above isolated atoms.
    """
    if not use_changed_smearing and (told := row.flags.get("changed_smearing")):
        return f"{told}, and training.use_changed_smearing is false"
    try:
        per_atom = energy_per_atom(row.energy, row.composition, isolated)
        check_energy(f"label {row.task_id}", per_atom, window)
    except DataError as error:
        return str(error)
    return ""


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
        energy=energy_of_forces(atoms),
        forces=np.asarray(atoms.get_forces(apply_constraint=False), dtype=float),
        stress=None if stress is None or not plain.pbc.all() else _voigt(np.asarray(stress, dtype=float)),
        force_mask=tuple(mask),
        config_type=brought(str(atoms.info.get("config_type", "bootstrap"))),
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
    check_force(f"label {row.task_id}", row.forces, row.force_mask, force_limit)


def _voigt(stress: np.ndarray) -> np.ndarray:
    if stress.shape == (3, 3):
        return stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
    return stress


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    keys: Sequence[str] = sorted(k for k in {*theirs, *ours} if theirs.get(k) != ours.get(k))
    return ", ".join(f"{key} {theirs.get(key)!r} instead of {ours.get(key)!r}" for key in keys)
