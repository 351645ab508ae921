"""A halt on disk: `walkers/wNN/halt.json`, moved to `walkers/wNN/halts/` when it has ended.

In between it may lie in `walkers/wNN/aside/`: its walker went on elsewhere while the halt waits for its label.
"""

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

# In the file name, so that counting them reads no frames.
_REFUSED = "-refused"


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
        self.aside = folder / "aside"
        self.ended = folder / "halts"

    def open(self, halt: Halt) -> None:
        """Write a halt, be it new, changed or put aside."""
        write_json(self._path(halt), asdict(halt))

    def read(self) -> Halt | None:
        """Return the open halt that the walker waits for, if there is one."""
        return self._read(self.path)

    def put_aside(self, halt: Halt) -> None:
        """Keep the open halt apart: the walker no longer waits for it."""
        self.aside.mkdir(exist_ok=True)
        os.replace(self.path, self.aside / _name(halt))
        fsync_directory(self.aside)

    def read_aside(self) -> list[Halt]:
        """Return the halts that were put aside and have not ended, the oldest first."""
        found = [self._read(path) for path in sorted(self.aside.glob("[0-9]*.json"))]
        return [halt for halt in found if halt is not None]

    def end(self, halt: Halt, outcome: dict[str, Any]) -> None:
        """Record how the halt ended and file it under its number."""
        ended = replace(halt, ended=outcome)
        path = self._path(halt)
        write_json(path, asdict(ended))
        self._file(ended, path)

    def count(self) -> int:
        """Return how many halts there were, those that have not ended included."""
        folders = (self.ended, self.aside)
        return sum(len(list(folder.glob("[0-9]*.json"))) for folder in folders) + self.path.exists()

    def refused(self) -> int:
        """Return how many ended without ever having had a cell that was worth a label."""
        return len(list(self.ended.glob(f"[0-9]*{_REFUSED}.json")))

    def _read(self, path: Path) -> Halt | None:
        try:
            halt = Halt(**read_json(path))
        except FileNotFoundError:
            return None
        except TypeError as error:
            raise DataError(f"{path}: not a halt: {error}", "move it away; the walker restarts") from error
        if halt.ended is not None:  # a kill came before it was filed
            self._file(halt, path)
            return None
        return halt

    def _path(self, halt: Halt) -> Path:
        path = self.aside / _name(halt)
        return path if path.exists() else self.path

    def _file(self, halt: Halt, path: Path) -> None:
        self.ended.mkdir(exist_ok=True)
        os.replace(path, self.ended / _name(halt, "" if halt.task_ids else _REFUSED))
        fsync_directory(self.ended)


def _name(halt: Halt, kind: str = "") -> str:
    return f"{halt.number:04d}{kind}.json"
