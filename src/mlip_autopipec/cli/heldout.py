"""Structures that a teacher labels and nobody trains on: what the reports of a demonstration compare with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.engines.teachers.labeller import TeacherLabeller
from mlip_autopipec.engines.teachers.settings import TeacherSettings


def emt_heldout(start: Atoms, states: Sequence[tuple[float, float]]) -> list[Atoms]:
    """Run MD by EMT itself from `start` and return labelled frames, four of each state.

    Parameters
    ----------
    states
        K, and the factor by which the lattice has expanded.
    """
    from ase.calculators.emt import EMT
    from ase.md.langevin import Langevin

    teacher = TeacherLabeller(TeacherSettings(model="emt"))
    frames = []
    for temperature, expansion in states:
        atoms = start.copy()
        atoms.set_cell(atoms.cell * expansion, scale_atoms=True)
        atoms.calc = EMT()
        rng = np.random.default_rng(int(temperature))
        widths = np.sqrt(atoms.get_masses() * 2 * temperature * units.kB)
        atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * widths[:, None])
        md = Langevin(atoms, 4 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, fixcm=False, rng=rng)
        md.run(50)
        for _ in range(4):
            md.run(20)
            frames.append(labelled(atoms, teacher, f"heldout_{temperature:.0f}K"))
    return frames


def labelled(atoms: Atoms, teacher: TeacherLabeller, config_type: str) -> Atoms:
    """Return a copy that carries the teacher's energy and forces."""
    label = teacher.label(atoms, Path())
    copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    copy.calc = SinglePointCalculator(copy, energy=label.energy, forces=label.forces)
    copy.info["config_type"] = config_type
    return copy
