"""A small flat Lennard-Jones world for the trainer, and a trainer process to kill. Importable: it runs in children."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.config import Config, load
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.daemons.inoffice import InOffice, trainers_office
from mlip_autopipec.daemons.launch import launch
from mlip_autopipec.daemons.trainer_worker import TrainerWorker
from mlip_autopipec.engines.teachers.labeller import TeacherLabeller
from mlip_autopipec.engines.teachers.settings import TeacherSettings
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results, make_result
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task

NOW = "2026-01-01T00:00:00.000Z"
TRAINING = {
    "cutoff": 6.0, "nradmax_by_orders": [5, 2], "lmax_by_orders": [0, 1],
    "min_initial_labels": 4, "min_new_labels": 3,
}  # fmt: skip


def frame(seed: int) -> Atoms:
    """Nine argon atoms in a plane, near a square lattice."""
    rng = np.random.default_rng(seed)
    grid = np.array([(i, j, 0) for i in range(3) for j in range(3)], dtype=float) * 3.9
    positions = grid + np.column_stack([rng.normal(0, 0.12, (9, 2)), np.zeros(9)])
    return Atoms("Ar9", positions=positions, cell=[11.7, 11.7, 20.0], pbc=(True, True, False))


def label(atoms: Atoms) -> Label:
    return TeacherLabeller(TeacherSettings(model="lj")).label(atoms, Path())


def labelled(seed: int) -> Atoms:
    atoms = frame(seed)
    truth = label(atoms)
    atoms.calc = SinglePointCalculator(atoms, energy=truth.energy, forces=truth.forces)
    return atoms


class World:
    """A run directory with everything but the daemons."""

    def __init__(self, root: Path, start: list[Atoms], *, start_section: dict[str, Any] | None = None, **training: Any):
        self.run = RunDirectory(root)
        self.run.create()
        self.run.start.mkdir()
        ase.io.write(self.run.start / "structure.extxyz", frame(0))
        ase.io.write(self.run.start / "dataset.extxyz", start)
        section = {"structure": "start/structure.extxyz", "dataset": "start/dataset.extxyz", **(start_section or {})}
        data = {
            "start": section,
            "labeller": {"engine": "teacher", "model": "lj"},
            "training": {**TRAINING, **training},
            "queue": {"fsync": False},
        }
        self.run.config_file.write_text(dump_mapping(data))
        self.config: Config = load(self.run)
        self.results = Results(self.run.results)
        self.queue = TaskQueue(self.run.queue / "dft", self.results, worker="test", attempts=self.run.attempts)

    def task(self, seed: int, mask: list[int] | None = None, **labeller: Any) -> Task:
        settings = {**self.config.labeller_settings(), **labeller}
        origin = {"walker": "w00", "step": seed, "version": "v0001"}
        return Task.new(
            frame(seed), mask or [1] * 9, settings,
            priority=7.5, origin=origin, config_type="active_learning", created=NOW,
        )  # fmt: skip

    def give(self, task: Task, *, force: float | None = None, energy_shift: float = 0.0) -> str:
        """Write the result of `task` as a worker would; `force` replaces the masked atoms' forces."""
        truth = label(task.atoms())
        truth = replace(truth, energy=truth.energy + energy_shift)
        if force is not None:
            truth.forces[np.asarray(task.force_mask) == 0] = force
        self.results.write_once(task.id, make_result(task, truth, "test", NOW))
        return task.id


def in_office(run: RunDirectory) -> InOffice:
    """Return a trainer as its service makes it."""
    config = load(run)
    return InOffice(trainers_office(run, config.queue.lease_s), lambda: TrainerWorker(run, config), wait=True)


if __name__ == "__main__":
    sys.exit(launch(Path(sys.argv[1]), "trainer-worker", in_office))
