"""A halt on disk: `walkers/wNN/halt.json`, moved to `walkers/wNN/halts/` when it has ended."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import fsync_directory, read_json, write_json
from mlip_autopipec.core.structure import structure_from_dict, structure_to_dict


@dataclass(frozen=True)
class Halt:
    """One stop of one walker.

    Attributes
    ----------
    number
        Counts the walker's halts from 1.
    step
        MD step at which gamma exceeded the threshold.
    gamma, atom
        Largest gamma and the atom that has it.
    version
        Potential version that halted.
    frame
        The halted structure (`core.structure`) and `gamma`, a list per atom.
    task_ids
        Tasks published for it: one, or more where a label did not heal it.
    carves
        Centre atom and number of atoms of each of them, as {"atom", "atoms"}.
    retries
        Larger cells that were asked for since a label did not heal it.
    refusal
        Why no cell was sent; empty if one was.
    ended
        None while open, else `{action, reason, version, gamma}`.
    """

    number: int
    walker: str
    step: int
    gamma: float
    atom: int
    version: str
    frame: dict[str, Any]
    task_ids: list[str]
    warnings: list[str] = field(default_factory=list)
    carves: list[dict[str, int]] = field(default_factory=list)
    retries: int = 0
    refusal: str = ""
    ended: dict[str, Any] | None = None

    def atoms(self) -> Atoms:
        """Return the halted frame with the per-atom array `gamma`."""
        structure = {key: value for key, value in self.frame.items() if key != "gamma"}
        atoms = structure_from_dict(structure)
        atoms.arrays["gamma"] = np.asarray(self.frame["gamma"], dtype=float)
        return atoms


def frame_to_dict(atoms: Atoms) -> dict[str, Any]:
    """Return the JSON form of a halted frame; infinite gamma becomes the largest float."""
    gamma = np.nan_to_num(atoms.arrays["gamma"], posinf=np.finfo(float).max)
    return {**structure_to_dict(atoms), "gamma": gamma.tolist()}


class HaltStore:
    """The halts of one walker; only that walker writes.

    Parameters
    ----------
    folder
        `walkers/wNN/`.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "halt.json"
        self.ended = folder / "halts"

    def open(self, halt: Halt) -> None:
        """Write a new halt."""
        write_json(self.path, asdict(halt))

    def read(self) -> Halt | None:
        """Return the open halt, if there is one."""
        try:
            halt = Halt(**read_json(self.path))
        except FileNotFoundError:
            return None
        except TypeError as error:
            raise DataError(f"{self.path}: not a halt: {error}", "move it away; the walker restarts") from error
        if halt.ended is not None:  # a kill came before it was filed
            self._file(halt)
            return None
        return halt

    def end(self, halt: Halt, outcome: dict[str, Any]) -> None:
        """Record how the halt ended and file it under its number."""
        write_json(self.path, asdict(replace(halt, ended=outcome)))
        self._file(halt)

    def _file(self, halt: Halt) -> None:
        self.ended.mkdir(exist_ok=True)
        os.replace(self.path, self.ended / f"{halt.number:04d}.json")
        fsync_directory(self.ended)

    def count(self) -> int:
        """Return how many halts there were, the open one included."""
        ended = len(list(self.ended.glob("[0-9]*.json"))) if self.ended.is_dir() else 0
        return ended + (1 if self.path.exists() else 0)
