"""The examples of `autopipe init`: configurations with comments, and the structures that they start from."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell

from mlip_autopipec.cli.heldout import emt_heldout, labelled
from mlip_autopipec.cli.liquid2d import SIGMA, liquid_frames, with_collision
from mlip_autopipec.core.files import write_text
from mlip_autopipec.engines.teachers.labeller import TeacherLabeller
from mlip_autopipec.engines.teachers.settings import TeacherSettings
from mlip_autopipec.store.rundir import RunDirectory


def write_example(run: RunDirectory, name: str) -> None:
    """Write `autopipe.yaml` and the start files of an example into an empty run directory."""
    run.start.mkdir(exist_ok=True)
    makers: dict[str, Callable[[RunDirectory], None]] = {
        "al": _aluminium,
        "al-espresso": _aluminium_espresso,
        "lj2d": _lennard_jones_2d,
    }
    makers[name](run)
    # Last, so that a folder with an `autopipe.yaml` is complete.
    text = resources.files("mlip_autopipec.cli").joinpath(f"example_files/{name}.yaml").read_text()
    write_text(run.config_file, text)


def strained_and_rattled(
    cell: Atoms, count: int, *, rattle: tuple[float, float], strain: float, seed: int
) -> list[Atoms]:
    """Return `count` copies of `cell` with random strain and displacements.

    Parameters
    ----------
    rattle
        Smallest and largest standard deviation of the displacements, A.
    strain
        Largest component of the random strain, dimensionless.
    """
    rng = np.random.default_rng(seed)
    frames = []
    for amplitude in np.linspace(*rattle, count):
        atoms = cell.copy()
        tensor = rng.uniform(-strain, strain, (3, 3))
        atoms.set_cell(atoms.cell @ (np.eye(3) + (tensor + tensor.T) / 2), scale_atoms=True)
        atoms.positions += rng.normal(0.0, amplitude, atoms.positions.shape)
        frames.append(atoms)
    return frames


def _aluminium(run: RunDirectory) -> None:
    """EMT aluminium: warm solid for training; the walkers go up to melting and find the rest."""
    lattice = bulk("Al", "fcc", a=3.99, cubic=True)
    seeds = strained_and_rattled(lattice * (2, 2, 2), 24, rattle=(0.02, 0.16), strain=0.03, seed=1)
    ase.io.write(run.start / "dataset.extxyz", seeds)
    ase.io.write(run.start / "structure.extxyz", lattice * (4, 4, 4))
    ase.io.write(
        run.start / "heldout.extxyz", emt_heldout(lattice * (3, 3, 3), ((300, 1.005), (700, 1.015), (1200, 1.03)))
    )


def _aluminium_espresso(run: RunDirectory) -> None:
    """The same with Quantum ESPRESSO: cells of at most 16 atoms to begin with, since each is a DFT run."""
    lattice = bulk("Al", "fcc", a=3.97, cubic=True)
    seeds = strained_and_rattled(lattice, 8, rattle=(0.02, 0.2), strain=0.03, seed=1)
    eight = make_supercell(bulk("Al", "fcc", a=3.97), 2 * np.eye(3))
    seeds += strained_and_rattled(eight, 4, rattle=(0.05, 0.2), strain=0.02, seed=2)
    seeds += strained_and_rattled(lattice * (2, 2, 1), 4, rattle=(0.1, 0.3), strain=0.02, seed=3)
    ase.io.write(run.start / "dataset.extxyz", seeds)
    ase.io.write(run.start / "structure.extxyz", lattice * (3, 3, 3))


def _lennard_jones_2d(run: RunDirectory) -> None:
    """A 2-D liquid without close contacts for training, and a hot one with a head-on collision to start from."""

    frames = liquid_frames(400, seed=1)
    calm = [f for f in frames if _shortest(f) >= 0.99 * SIGMA]
    ase.io.write(run.start / "dataset.extxyz", calm[:60])
    teacher = TeacherLabeller(TeacherSettings(model="lj"))
    heldout = [labelled(atoms, teacher, "heldout_liquid") for atoms in liquid_frames(20, seed=2)]
    ase.io.write(run.start / "heldout.extxyz", heldout)
    ase.io.write(run.start / "structure.extxyz", with_collision(calm[-1]))


def _shortest(atoms: Atoms) -> float:
    distances = atoms.get_all_distances(mic=True)
    return float(distances[np.triu_indices(len(atoms), 1)].min())
