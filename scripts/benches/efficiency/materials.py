"""Al (EMT) and Si (Stillinger-Weber): start structures of all walkers, and frames by the teacher to be judged by."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.build import bulk, make_supercell
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from mlip_autopipec.cli.examples import strained_and_rattled
from mlip_autopipec.engines.lammps.reference import LammpsFile

SILICON: dict[str, Any] = {"pair_style": "sw", "file": "Si.sw", "elements": ["Si"]}
"""Stillinger & Weber 1985, doi:10.1103/PhysRevB.31.5262, by LAMMPS' own file."""
SYSTEMS = ("solid", "liquid", "vacancy", "surface")
STARTS = 8
"""Rattled crystals of 32 atoms from which every strategy begins; they are no labels of any."""


@dataclass(frozen=True)
class Material:
    """An element with its teacher.

    Attributes
    ----------
    symbol, crystal, lattice : element, ASE's name of the crystal, constant in A
    hot, liquid, melt : K: of the hot solid, the liquid, and at which the crystal melts at once
    expansion : of the liquid's box, in length
    cutoff : A, of the potential
    labeller : the run's `labeller` section
    repeat : conventional cells along an edge of the large frames (some 250 atoms)
    """

    symbol: str
    crystal: str
    lattice: float
    hot: float
    liquid: float
    melt: float
    expansion: float
    cutoff: float
    labeller: dict[str, Any]
    repeat: int

    def calculator(self) -> Calculator:
        """Return the teacher."""
        return EMT() if self.symbol == "Al" else LammpsFile(**SILICON)

    def labelled(self, atoms: Atoms) -> Atoms:
        """Return a copy with the teacher's energy and forces."""
        copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        copy.calc = self.calculator()
        energy, forces = copy.get_potential_energy(), copy.get_forces()
        copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces)
        return copy

    def cube(self, repeat: int, scale: float = 1.0) -> Atoms:
        """Return the perfect crystal; `scale` in length."""
        return bulk(self.symbol, self.crystal, a=scale * self.lattice, cubic=True) * (repeat, repeat, repeat)

    def small(self, scale: float = 1.0) -> Atoms:
        """Return a nearly cubic cell of 32 atoms."""
        cubic = bulk(self.symbol, self.crystal, a=scale * self.lattice, cubic=True)
        return cubic * (2, 2, 2) if len(cubic) == 4 else make_supercell(cubic, [[1, 1, 0], [-1, 1, 0], [0, 0, 2]])


MATERIALS = (
    Material("Al", "fcc", 3.99, 900.0, 1250.0, 2600.0, 1.03, 5.6, {"engine": "teacher", "model": "emt"}, 4),
    Material(
        "Si", "diamond", 5.431, 1200.0, 2000.0, 4500.0, 0.985, 5.2,
        {
            "engine": "ase", "calculator": "mlip_autopipec.engines.lammps.reference.LammpsFile", "kwargs": SILICON,
            "elements": ["Si"],
        },
        3,
    ),
)  # fmt: skip


def start_of(material: Material, system: str, crystal: Atoms) -> Atoms:
    """Return a system's perfect structure, made of a crystal (for the liquid, of an expanded one)."""
    atoms = crystal.copy()
    if system == "vacancy":
        del atoms[len(atoms) // 2]
    if system == "surface":
        # From face to face 10 A of nothing: no potential here sees across.
        atoms.center(vacuum=5.0, axis=2)
    return atoms


def starts(material: Material, *, large: bool, systems: Sequence[str] = SYSTEMS) -> dict[str, Atoms]:
    """Return where the walkers begin: large frames, or cells of some 32 atoms."""
    found = {}
    for system in systems:
        scale = material.expansion if system == "liquid" else 1.01
        crystal = material.cube(material.repeat, scale) if large else material.small(scale)
        found[system] = dislocation(material) if system == "dislocation" else start_of(material, system, crystal)
    return found


def temperatures(material: Material, system: str) -> list[tuple[float, float, float]]:
    """Return a walker's schedule: (share of the steps, K at the beginning, K at the end).

    As hot as what is held out: random frames are drawn from what they are judged by. (Long cold ramps, in which the
    liquid is rare, did not help: Al's liquid is known to 0.025 eV/A from crystals alone.)
    """
    if system == "liquid":
        return [(0.1, material.melt, material.melt), (0.9, material.liquid, material.liquid)]
    if system == "dislocation":
        return [(1.0, 100.0, 0.6 * material.hot)]
    return [(1.0, material.hot, material.hot)]


def seeds(material: Material, seed: int) -> list[Atoms]:
    """Return the labelled crystals that every strategy starts from."""
    frames = strained_and_rattled(material.small(1.005), STARTS, rattle=(0.03, 0.12), strain=0.02, seed=seed)
    return [material.labelled(atoms) for atoms in frames]


def held_out(material: Material, system: str, frames: int, seed: int, effort: float = 1.0) -> list[Atoms]:
    """Return labelled frames of molecular dynamics by the teacher itself, at the system's hot end.

    Parameters
    ----------
    effort
        Of the steps that it takes to get there and from frame to frame; less than 1 only shows that it runs.
    """
    repeat = 3 if material.crystal == "fcc" else 2
    if system == "dislocation":
        atoms = dislocation(material)
    else:
        atoms = start_of(material, system, material.cube(repeat, material.expansion if system == "liquid" else 1.01))
    rng = np.random.default_rng(seed)
    temperature = temperatures(material, system)[-1][2]
    atoms.rattle(0.05, rng=rng)
    atoms.calc = material.calculator()
    dynamics = Langevin(atoms, 4 * units.fs, temperature_K=temperature, friction=0.02 / units.fs, rng=rng, fixcm=False)
    if system == "liquid":
        MaxwellBoltzmannDistribution(atoms, temperature_K=1.5 * material.melt, rng=rng)
        dynamics.set_temperature(temperature_K=material.melt)
        dynamics.run(int(150 * effort))
        dynamics.set_temperature(temperature_K=temperature)
        dynamics.run(int(100 * effort))
    else:
        MaxwellBoltzmannDistribution(atoms, temperature_K=2 * temperature, rng=rng)
        dynamics.run(int(60 * effort))
    found = []
    for _ in range(frames):
        dynamics.run(int(25 * effort))
        found.append(material.labelled(atoms))
    return found


def dislocation(material: Material) -> Atoms:
    """Return a slab with an edge dislocation: the upper half has one half-plane more than the lower one.

    Axes: x along the Burgers vector a/2 [1-10], y along [111], z along [11-2]; x and z are periodic, y is open.
    """
    cubic = bulk(material.symbol, material.crystal, a=material.lattice, cubic=True)
    column = _oriented(cubic, material.lattice)
    count = 11 if len(column) == 6 else 8
    layers = 2 if len(column) == 6 else 1
    lower, upper = column * (count, layers, 2), column * (count + 1, layers, 2)
    length = 0.5 * (lower.cell[0, 0] + upper.cell[0, 0])
    for half in (lower, upper):
        half.set_cell([length, half.cell[1, 1], half.cell[2, 2]], scale_atoms=True)
    upper.positions[:, 1] += lower.cell[1, 1]
    both = lower + upper
    both.set_cell([length, 2 * lower.cell[1, 1], lower.cell[2, 2]])
    both.center(vacuum=6.0, axis=1)
    both.pbc = True
    both.wrap()
    return both


def near_the_glide_plane(atoms: Atoms) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return (N,) True for the atoms of the two planes between which the dislocation lies, and their neighbours."""
    heights = atoms.positions[:, 1]
    return np.asarray(np.abs(heights - 0.5 * (heights.min() + heights.max())) < 3.5)


def _oriented(cubic: Atoms, a: float) -> Atoms:
    """Return the smallest right-angled cell along [1-10], [111], [11-2]."""
    big = cubic * (8, 8, 8)
    axes = np.array([[1, -1, 0], [1, 1, 1], [1, 1, -2]]) / np.sqrt([[2], [3], [6]])
    edges = np.array([a / np.sqrt(2), a * np.sqrt(3), a * np.sqrt(6) / 2])
    # No plane of atoms lies on a face, and no face of diamond inside a bilayer: there the glide plane will be.
    offset = np.array([0.1, edges[1] / (6 if len(cubic) == 4 else 12), 0.1])
    place = (big.positions - big.positions.mean(axis=0)) @ axes.T + offset
    inside = ((place >= 0) & (place < edges)).all(axis=1)
    return Atoms(big.numbers[inside], positions=place[inside], cell=edges, pbc=True)


def say(text: str) -> None:
    """Progress is talk."""
    print(text, file=sys.stderr, flush=True)


def folder_of(root: Path, *names: str) -> Path:
    """Return a new folder below `root`."""
    path = root.joinpath(*names)
    path.mkdir(parents=True)
    return path
