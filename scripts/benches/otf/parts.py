"""What is measured on: aluminium by EMT, a potential that knows the warm solid, one that knows the liquid too."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin

from mlip_autopipec.cli.examples import strained_and_rattled
from mlip_autopipec.config import Config, parse
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.fitjob import FitJob, FitRequest
from mlip_autopipec.daemons.fitter import Fitter
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.rundir import RunDirectory

LATTICE_A = 4.02
SIZES = {500: 5, 4000: 10}
SOLID, LIQUID = "solid", "solid and liquid"


@dataclass(frozen=True)
class Potentials:
    """Folders with the files of a version, by what it knows; and liquid frames that the second one knows."""

    folders: dict[str, Path]
    liquid: list[Atoms]


def say(text: str) -> None:
    print(text, file=sys.stderr)


def crystal(atoms: int) -> Atoms:
    return bulk("Al", "fcc", a=LATTICE_A, cubic=True).repeat(SIZES[atoms])


def labelled(atoms: Atoms) -> Atoms:
    """Return a copy with EMT's energy, forces and stress."""
    copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True, calculator=EMT())
    told = {name: getattr(copy, f"get_{name}")() for name in ("potential_energy", "forces", "stress")}
    copy.calc = SinglePointCalculator(copy, energy=told.pop("potential_energy"), **told)
    return copy


def liquid_frames(count: int) -> list[Atoms]:
    """Return frames of a liquid of 108 atoms at 1800 K, by EMT."""
    atoms = bulk("Al", "fcc", a=4.2, cubic=True).repeat(3)
    atoms.calc = EMT()
    rng = np.random.default_rng(1)
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * np.sqrt(atoms.get_masses() * 6000 * units.kB)[:, None])
    md = Langevin(atoms, 3 * units.fs, temperature_K=1800, friction=0.03 / units.fs, fixcm=False, rng=rng)
    md.run(150)
    frames = []
    for _ in range(count):
        md.run(15)
        frames.append(labelled(atoms))
    return frames


def configuration(structure: Path, dataset: Path, **otf: Any) -> dict[str, Any]:
    """The keys that a user would give; all else is as it is by default."""
    return {
        "start": {"structure": str(structure), "dataset": str(dataset)},
        "labeller": {"engine": "teacher", "model": "emt"},
        "otf": {"timestep": 2.0, "temperature": 300.0, **otf},
    }


def make_run(root: Path, structure: Atoms, **otf: Any) -> tuple[RunDirectory, Config]:
    """Make a run directory around one start structure."""
    run = RunDirectory(root)
    run.create()
    run.start.mkdir(exist_ok=True)
    run.potentials.mkdir(exist_ok=True)
    ase.io.write(run.start / "structure.extxyz", structure)
    return run, parse(configuration(Path("start/structure.extxyz"), Path("start/dataset.extxyz"), **otf), run.root)


def fit_potentials(root: Path) -> Potentials:
    """Fit both potentials by the trainer's own parts."""
    run, config = make_run(root, crystal(500))
    cell = bulk("Al", "fcc", a=LATTICE_A, cubic=True).repeat(2)
    solid = [labelled(a) for a in strained_and_rattled(cell, 40, rattle=(0.02, 0.25), strain=0.03, seed=1)]
    liquid = liquid_frames(16)
    settings = config.labeller_settings()
    intake = Intake(run, settings, force_limit=config.training.force_limit)
    intake.load()
    fitter = Fitter(FitJob(run.root, config.training, settings, config.node, ("Al",)))
    folders, registry = {}, Registry(run.potentials)
    for name, frames in ((SOLID, solid), (LIQUID, solid + liquid)):
        intake.take_frames(frames)
        answer = fitter(FitRequest(tuple(sorted(intake.trainable))))
        version = registry.publish(answer.folder, {"parent": None, "new_task_ids": [], **answer.facts})
        folders[name] = registry.path(version)
    return Potentials(folders, liquid)


def publish(run: RunDirectory, folder: Path) -> str:
    """Publish the files in `folder` as the run's next version, and tell of it as the trainer does."""
    registry = Registry(run.potentials)
    work = registry.new_work_folder()
    for name in FILES:
        shutil.copy(folder / name, work / name)
    version = registry.publish(work, {"parent": None, "task_ids": [], "new_task_ids": [], "stress_labels": 1})
    EventLog(run.events, "trainer-worker").emit("version_published", version=version, parent=None, task_ids=[])
    return version
