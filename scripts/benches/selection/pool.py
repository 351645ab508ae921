"""Trajectories of a material, most of them dull, by the explorer's own MD; and frames to be judged by."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from emt import PairwiseEmt

from mlip_autopipec.engines.dynamics.langevin import LangevinRun
from mlip_autopipec.engines.dynamics.track import FRAMES, Conditions, Track

# Trajectories of each stratum: crystals fill what one explores, the rest is what one must not miss.
POOL: Final = {"crystal": 16, "vacancy": 2, "compressed": 1, "liquid": 1}
RARE: Final = ("vacancy", "compressed", "liquid")
FRAMES_EACH: Final = 20
_STRIDE: Final = 10
_TIMESTEP_FS: Final = 3.0
_HEAT: Final = {
    "crystal": (200.0, 900.0),
    "vacancy": (400.0, 900.0),
    "compressed": (300.0, 900.0),
    "liquid": (1800.0, 2200.0),
}
_LENGTH: Final = {"crystal": (0.99, 1.02), "vacancy": (1.0, 1.02), "compressed": (0.90, 0.94), "liquid": (1.02, 1.04)}


def crystal(material: str) -> Atoms:
    """Return 32 atoms of the perfect crystal at the length that EMT gives it."""
    if material == "Al":
        return bulk("Al", a=3.99, cubic=True).repeat(2)
    atoms = bulk("Cu", a=3.79, cubic=True)
    atoms.symbols[0] = "Au"
    return atoms.repeat(2)


def trajectory(material: str, stratum: str, rng: np.random.Generator, frames: int) -> list[Atoms]:
    """Return labelled frames of one trajectory from a random state of the stratum."""
    atoms = crystal(material)
    atoms.set_cell(atoms.cell * rng.uniform(*_LENGTH[stratum]), scale_atoms=True)
    if stratum == "vacancy":
        del atoms[int(rng.integers(len(atoms)))]
    if stratum == "liquid":
        atoms.positions += rng.normal(scale=0.45, size=atoms.positions.shape)
        atoms = _cooled(atoms)
    conditions = Conditions(
        float(rng.uniform(*_HEAT[stratum])),
        None,
        _STRIDE * (frames + 4),
        _STRIDE,
        _TIMESTEP_FS,
        int(rng.integers(1 << 30)),
    )
    with tempfile.TemporaryDirectory() as folder:
        ended = LangevinRun(Track(atoms, conditions, Path(folder)), PairwiseEmt()).run()
        found = ase.io.read(Path(folder) / FRAMES, ":")
    if ended.complaint:
        raise RuntimeError(f"{material} {stratum}: {ended.complaint}")
    return [labelled(frame, stratum) for frame in found[-frames:]]


def _cooled(atoms: Atoms) -> Atoms:
    """Push overlapping atoms apart."""
    atoms.calc = PairwiseEmt()
    for _ in range(30):
        forces = atoms.get_forces()
        atoms.positions += forces * min(0.02, 0.15 / float(np.abs(forces).max()))
    atoms.calc = None
    return atoms


def labelled(frame: Atoms, stratum: str) -> Atoms:
    """Return a copy with EMT's energy and forces."""
    atoms = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True, info={"config_type": stratum})
    atoms.calc = PairwiseEmt()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def pool(material: str, seed: int, numbers: Mapping[str, int] = POOL) -> list[Atoms]:
    """Return the frames of all trajectories of a seed."""
    rng = np.random.default_rng(seed)
    names = [stratum for stratum, number in numbers.items() for _ in range(number)]
    return [frame for name in names for frame in trajectory(material, name, rng, FRAMES_EACH)]


def judges(material: str) -> dict[str, list[Atoms]]:
    """Return frames of other trajectories: of each rare stratum, and of the pool's own distribution."""
    rng = np.random.default_rng(987_654)
    found = {name: [f for _ in range(4) for f in trajectory(material, name, rng, 10)] for name in RARE}
    return {**found, "in-distribution": pool(material, 123_456)[::4]}
