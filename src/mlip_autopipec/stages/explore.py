"""seeds -> explore -> candidate task.

Reads: the start structures that the user (or `autopipe init`) gave. Writes: tasks in `queue/dft/pending`, one for each
structure that has no label yet. Next: `label`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.store.task import Task

# Labels that MD waits for come first: gamma is at least 1 there.
SEED_PRIORITY = 0.0


class StartSettings(BaseModel):
    """Where a run begins. Paths are relative to the run directory."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    structure: Path = Field(description="file that ASE reads: the atoms (and velocities, if any) from which MD starts")
    dataset: Path | None = Field(
        None, description="extxyz with the first training structures; those without energy and forces are labelled"
    )
    potential: Path | None = Field(None, description=".yaml (B-basis) of an existing potential, as v0001")
    active_set: Path | None = Field(None, description=".asi that belongs to `potential`")

    @model_validator(mode="after")
    def _potential_is_complete(self) -> StartSettings:
        if self.potential is not None and (self.dataset is None or self.active_set is None):
            missing = "dataset" if self.dataset is None else "active_set"
            raise ValueError(
                f"start.potential without start.{missing}: gamma needs the active set and every refit needs the "
                "data, so give both or leave the potential out"
            )
        if self.active_set is not None and self.potential is None:
            raise ValueError("start.active_set without start.potential: give the potential that it belongs to")
        if self.potential is not None and self.potential.suffix != ".yaml":
            raise ValueError(f"start.potential {self.potential}: needs the B-basis .yaml, a .yace has no gamma")
        if self.potential is None and self.dataset is None:
            raise ValueError("start: give a dataset (training structures, labelled or not)")
        return self


def read_structures(path: Path, key: str) -> list[Atoms]:
    """Read all frames of a file.

    Parameters
    ----------
    path
        File of any format that ASE reads.
    key
        The setting that names it, for the error.

    Raises
    ------
    ConfigError
        The file is missing, unreadable or empty.
    """
    if not path.is_file():
        raise ConfigError(f"{key}: {path}: file not found", "correct the path, relative to the run directory")
    try:
        frames = ase.io.read(path, index=":")
    except Exception as error:  # ASE's readers raise anything at all
        raise ConfigError(f"{key}: {path}: cannot be read: {error}", "write it as extxyz") from error
    if not frames:
        raise ConfigError(f"{key}: {path}: holds no structure", "give at least one")
    return list(frames)


def has_label(atoms: Atoms) -> bool:
    """True if energy and forces came with the structure."""
    if atoms.calc is None:
        return False
    try:
        atoms.get_potential_energy()
        atoms.get_forces()
    except (PropertyNotImplementedError, RuntimeError):
        return False
    return True


def seed_tasks(frames: Sequence[Atoms], labeller: Mapping[str, Any], created: str) -> Iterator[Task]:
    """Yield a task for every structure without a label; whole structures, nothing masked."""
    for number, atoms in enumerate(frames):
        if not has_label(atoms):
            yield Task.new(
                atoms,
                np.ones(len(atoms), dtype=int).tolist(),
                dict(labeller),
                priority=SEED_PRIORITY,
                origin={"source": "bootstrap", "number": number},
                config_type=str(atoms.info.get("config_type", "bootstrap")),
                created=created,
            )
