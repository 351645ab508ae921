"""task -> label -> result: reference energy, forces and stress of one task's structure.

Reads: a task that was claimed from `queue/dft`, labels of like structures. Writes: inputs and outputs in
`attempts/<task>/`, `refused.json` there for a label outside the windows; returns the record that the worker writes to
`results/<id>.json`. Next: `curate`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from ase import Atoms
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlip_autopipec.core.clock import Clock, iso_time
from mlip_autopipec.core.errors import DataError, NotConverged, OutputUnreadable
from mlip_autopipec.core.files import dump_json, write_text
from mlip_autopipec.core.interfaces import Label, Labeller, Tightenable
from mlip_autopipec.core.likeness import likeness_key
from mlip_autopipec.core.windows import LabelRange, check_energy, check_force, energy_per_atom, largest_force
from mlip_autopipec.store.results import Results, make_result
from mlip_autopipec.store.reuse import REFUSED, known_label
from mlip_autopipec.store.task import Task

# A label that a tighter SCF moves by more is of another electronic state, or of none.
_SAME_ENERGY_EV: Final = 1e-3  # per atom
_SAME_FORCE_EV_A: Final = 0.02
_SAME_FORCE_FRACTION: Final = 0.02


class LabellingSettings(BaseModel):
    """Which labels are accepted, and which are marked. What a potential expects never decides about a label."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Tungsten is bound by 9 eV; a free atom without spin lies up to 7 eV above its ground state; hot squeezed matter
    # has some 10 eV.
    energy_window: tuple[float, float] = Field(
        (-20.0, 20.0),
        description="eV per atom above isolated atoms; a label outside is refused: no matter has such an energy",
    )
    surprise_energy: float = Field(
        0.5, ge=0, description="eV per atom outside the labels so far, from which a label is marked as a surprise"
    )
    surprise_force: float = Field(
        2.0, ge=1, description="times the largest learned force so far, from which a label is marked as a surprise"
    )
    recheck_surprises: bool = Field(
        False, description="compute a surprise once more, tighter; a label that differs then is refused"
    )
    # Spin transitions change a moment by 1 and more, heat by some 0.2.
    moment_jump: float = Field(
        0.5, gt=0, description="Bohr magnetons per atom of an element between labels of one walker, marked as a jump"
    )
    reuse: bool = Field(
        True, description="take the label of a like structure (other mask, order, origin) instead of computing it again"
    )

    @model_validator(mode="after")
    def _window_is_open(self) -> Self:
        if self.energy_window[0] >= self.energy_window[1]:
            raise ValueError(f"labelling.energy_window: {list(self.energy_window)}: the first number must be smaller")
        return self


@dataclass(frozen=True)
class Judge:
    """Whom a label has to convince.

    Attributes
    ----------
    settings : windows and margins
    force_limit : eV/A
    isolated : energies of free atoms, eV, as far as they are known
    seen : what the labels of the newest version say; None before the first
    """

    settings: LabellingSettings = field(default_factory=LabellingSettings)
    force_limit: float = 100.0
    isolated: Mapping[str, float] = field(default_factory=dict)
    seen: LabelRange | None = None

    def check(self, task: Task, label: Label) -> None:
        """Raise `DataError` if the label is outside a window."""
        check_force(f"label {task.id}", label.forces, task.force_mask, self.force_limit)
        check_energy(f"label {task.id}", self._per_atom(task, label), self.settings.energy_window)

    def surprise(self, task: Task, label: Label) -> str:
        """Return in which way the label is unlike the labels so far; empty if it is not."""
        if self.seen is None:
            return ""
        return self.seen.surprise(
            self._per_atom(task, label),
            largest_force(label.forces, task.force_mask),
            energy_margin=self.settings.surprise_energy,
            force_factor=self.settings.surprise_force,
        )

    def _per_atom(self, task: Task, label: Label) -> float | None:
        return energy_per_atom(label.energy, Counter(task.structure["species"]), self.isolated)


def label_task(
    labeller: Labeller,
    task: Task,
    folder: Path,
    *,
    worker: str,
    clock: Clock,
    judge: Judge | None = None,
    results: Results | None = None,
) -> dict[str, Any]:
    """Label a task's structure and return the checked result record.

    Parameters
    ----------
    folder
        Existing folder of this attempt.
    worker
        Name that goes into the record.
    judge
        Windows and expectations; default: the windows' defaults.
    results
        Where labels of like structures are looked for; None: nowhere.

    Raises
    ------
    DataError
        The task's mask does not fit its structure, or the label is outside a window (and kept as `refused.json`).
    EngineError
        There is no label, or it is not what it claims to be.
    """
    judge = judge or Judge()
    atoms = task.atoms()
    check_mask(task.force_mask, len(atoms))
    begin = clock.monotonic()
    key = likeness_key(atoms, task.labeller)
    known = known_label(task, key, folder.parent, results) if results and judge.settings.reuse else None
    label = known or labeller.label(atoms.copy(), folder)
    check_label(label, len(atoms))
    surprise = judge.surprise(task, label)
    if surprise and judge.settings.recheck_surprises and known is None:
        label = _recheck(labeller, label, atoms, folder)
    flags = _flags(label.info, surprise)
    info = {**label.info, "labeller": labeller.name, "likeness": key, "wall_s": round(clock.monotonic() - begin, 6)}
    label = replace(label, info=info | ({"flags": flags} if flags else {}))
    record = make_result(task, label, worker, iso_time(clock.wall()))
    try:
        judge.check(task, label)
    except DataError as error:
        # Hours of computing: kept, and judged again once a window is wider.
        write_text(folder / REFUSED, dump_json(record))
        error.hint += f"; then `autopipe queue retry {task.id}`, which computes nothing again"
        raise
    return record


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
    values = {"energy": np.asarray(label.energy, dtype=float), "forces": np.asarray(label.forces, dtype=float)}
    shapes: dict[str, tuple[int, ...]] = {"energy": (), "forces": (n_atoms, 3), "stress": (6,), "moments": (n_atoms,)}
    if label.stress is not None:
        values["stress"] = np.asarray(label.stress, dtype=float)
    if label.info.get("moments") is not None:
        values["moments"] = np.asarray(label.info["moments"], dtype=float)
    for name, value in values.items():
        if value.shape != shapes[name]:
            raise OutputUnreadable(f"label.{name}: shape {value.shape}, expected {shapes[name]}")
        if not np.isfinite(value).all():
            raise OutputUnreadable(f"label.{name}: contains a number that is not finite", "look into attempts/<task>/")


def _flags(info: Mapping[str, Any], surprise: str) -> dict[str, str]:
    """Return what is odd about a label that is kept all the same: name -> one line for people."""
    flags = {"surprise": surprise} if surprise else {}
    if info.get("smearing_changed"):
        flags["changed_smearing"] = f"made with a smearing of {info.get('scf', {}).get('degauss_ry', '?')} Ry"
    return flags


def _recheck(labeller: Labeller, label: Label, atoms: Atoms, folder: Path) -> Label:
    """Return the label of a tighter computation.

    Raises
    ------
    NotConverged
        The two differ, so that neither can be trusted.
    """
    if not isinstance(labeller, Tightenable):
        return replace(label, info={**label.info, "recheck": f"{labeller.name} knows nothing tighter"})
    (folder / "recheck").mkdir(exist_ok=True)
    tight = labeller.tighter().label(atoms.copy(), folder / "recheck")
    check_label(tight, len(atoms))
    energy = abs(tight.energy - label.energy) / len(atoms)
    force = float(np.linalg.norm(tight.forces - label.forces, axis=1).max())
    scale = float(np.linalg.norm(label.forces, axis=1).max())
    told = f"a tighter SCF moved the energy by {1e3 * energy:.3g} meV/atom and a force by {force:.3g} eV/A"
    if energy > _SAME_ENERGY_EV or force > max(_SAME_FORCE_EV_A, _SAME_FORCE_FRACTION * scale):
        raise NotConverged(
            f"a surprise that does not repeat: {told}", "another electronic state? see both outputs in attempts/<task>/"
        )
    return replace(tight, info={**tight.info, "recheck": told})
