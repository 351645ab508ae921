"""Al and Cu (EMT) and argon (Lennard-Jones): frames of hot bulk, vacancy, surface and liquid, and ACE fits to them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

from mlip_autopipec.ace.formats.asi import write_asi
from mlip_autopipec.ace.linear import LabelledDesign, fit
from mlip_autopipec.ace.maxvol import active_set
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.daemons.evaluators import load_evaluator
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.settings import MDSettings
from mlip_autopipec.stages.train import TrainingSettings
from mlip_autopipec.structures.snapping import repeats
from mlip_autopipec.structures.window import complete_parent

SYSTEMS = ("bulk", "vacancy", "surface", "liquid")


@dataclass(frozen=True)
class Material:
    """An element with its teacher.

    Attributes
    ----------
    lattice : fcc constant, A
    solid, liquid, melt : temperatures, K, of the solid frames, the liquid ones, and at which the crystal is melted
    expansion : of the liquid's box, in length
    core : radius of the learned core, A: the nearer half of the first shell
    cutoff : of the fitted potential, A
    timestep : fs
    """

    symbol: str
    lattice: float
    solid: float
    liquid: float
    melt: float
    expansion: float
    core: float
    cutoff: float
    timestep: float

    def calculator(self) -> Calculator:
        """Return the teacher."""
        if self.symbol == "Ar":
            return LennardJones(sigma=3.4, epsilon=0.0104, rc=8.5, ro=6.8, smooth=True)
        return EMT()

    def forces(self, atoms: Atoms) -> np.ndarray:
        """Return the teacher's (N, 3) forces, eV/A."""
        copy = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        copy.calc = self.calculator()
        return np.asarray(copy.get_forces())


MATERIALS = (
    Material("Al", 4.0, 650.0, 1250.0, 2600.0, 1.03, 3.0, 6.0, 2.0),
    Material("Cu", 3.6, 900.0, 1600.0, 3200.0, 1.03, 3.0, 5.5, 2.0),
    Material("Ar", 5.3, 50.0, 95.0, 500.0, 1.09, 4.4, 8.5, 5.0),
)


def start_of(material: Material, system: str, repeat: int) -> Atoms:
    """Return a system's perfect structure; `repeat` conventional cells in each direction."""
    scale = material.expansion if system == "liquid" else 1.0
    atoms = bulk(material.symbol, "fcc", a=scale * material.lattice, cubic=True) * (repeat, repeat, repeat)
    if system == "vacancy":
        del atoms[len(atoms) // 2]
    if system == "surface":
        atoms.center(vacuum=6.0, axis=2)
        atoms.cell[2] += [0.0, 0.0, 4.0]
    return atoms


def teacher_frames(material: Material, system: str, frames: int) -> list[Atoms]:
    """Return frames of about 108 atoms by molecular dynamics with the teacher itself, with energy and forces."""
    atoms = start_of(material, system, 3)
    atoms.rattle(0.05, seed=3)
    atoms.calc = material.calculator()
    rng = np.random.default_rng(5)
    MaxwellBoltzmannDistribution(atoms, temperature_K=2 * material.solid, rng=rng)
    target = material.liquid if system == "liquid" else material.solid
    dynamics = Langevin(
        atoms, 2 * material.timestep * units.fs, temperature_K=target, friction=0.02 / units.fs, rng=rng, fixcm=False
    )
    if system == "liquid":
        dynamics.set_temperature(temperature_K=material.melt)
        dynamics.run(200)
        dynamics.set_temperature(temperature_K=target)
    found = []
    dynamics.run(40)
    for _ in range(frames):
        dynamics.run(10)
        found.append(atoms.copy())
        found[-1].info["energy_label"] = float(atoms.get_potential_energy())
        found[-1].arrays["forces_label"] = atoms.get_forces().copy()
    return found


def fit_potential(material: Material, frames: list[Atoms], folder: Path) -> Evaluator:
    """Fit a linear ACE of the run's kind to the frames, with its active set."""
    settings = TrainingSettings(cutoff=material.cutoff, nradmax_by_orders=(10, 4, 2), lmax_by_orders=(0, 3, 2))
    basis = make_basis(settings, [material.symbol])
    rows = []
    environments = []
    for number, atoms in enumerate(frames):
        design = basis.design(atoms)
        environments.append(design.projections[material.symbol][1])
        rows.append(
            LabelledDesign(
                name=str(number), design=design, energy=atoms.info["energy_label"], forces=atoms.arrays["forces_label"],
                learned=np.ones(len(atoms), dtype=bool), energy_weight=100.0, force_weight=1.0,
            )
        )  # fmt: skip
    folder.mkdir(parents=True)
    basis.write(fit(rows, basis.ranks).coefficients, {material.symbol: 0.0}, folder)
    write_asi({material.symbol: active_set(np.vstack(environments)).inverse}, folder / "potential.asi")
    return load_evaluator(folder / "potential.yaml", folder / "potential.asi")


def potentials_of(material: Material, folder: Path) -> dict[str, Evaluator]:
    """Return a `trained` potential that knows all systems, and an `early` one that knows the solid only."""
    by_system = {system: teacher_frames(material, system, 12) for system in SYSTEMS}
    solid = by_system["bulk"] + by_system["vacancy"]
    every = [atoms for frames in by_system.values() for atoms in frames]
    return {
        "trained": fit_potential(material, every, folder / f"{material.symbol}-trained"),
        "early": fit_potential(material, solid, folder / f"{material.symbol}-early"),
    }


def parents_of(material: Material, system: str, evaluator: Evaluator, frames: int) -> list[Atoms]:
    """Return frames of about 500 atoms by molecular dynamics with the trained potential in LAMMPS."""
    atoms = start_of(material, system, 5)
    temperature = material.melt if system == "liquid" else material.solid
    md = _langevin(evaluator, temperature, material)
    # Half of the kinetic energy of a perfect crystal becomes potential energy.
    md.start(atoms, velocity_seed=7)
    md.run(1000 if system == "liquid" else 400)
    if system == "liquid":
        melted = md.frame()
        md.close()
        md = _langevin(evaluator, material.liquid, material)
        md.start(melted, velocity_seed=8)
        md.run(1000)
    found = []
    for _ in range(frames):
        md.run(100)
        found.append(md.frame())
    md.close()
    last = found[-1]
    if (
        system == "liquid"
        and repeats(complete_parent(last.cell.array, last.pbc), last.numbers, last.positions).max() > 1
    ):
        raise click.ClickException(f"{material.symbol}: the liquid is a crystal: raise `melt` or `expansion`")
    return found


def _langevin(evaluator: Evaluator, temperature: float, material: Material) -> LammpsMD:
    settings = MDSettings(
        ensemble="langevin", temperature_k=temperature, timestep_fs=material.timestep, thermostat_damping_fs=100.0,
        seed=11,
    )  # fmt: skip
    md = LammpsMD(evaluator, settings)
    md.gamma_every = 1_000_000
    return md


def centres_of(material: Material, system: str, atoms: Atoms, number: int, rng: np.random.Generator) -> list[int]:
    """Return atoms in the middle: next to the vacancy, in the surface's topmost layers, else any."""
    if system == "surface":
        order = np.argsort(atoms.positions[:, 2])[-40:]
    elif system == "vacancy":
        site = start_of(material, "bulk", 5).positions[start_of(material, "bulk", 5).positions.shape[0] // 2]
        probe = atoms.copy()
        probe.append("X")
        probe.positions[-1] = site
        order = np.argsort(probe.get_distances(-1, range(len(atoms)), mic=True))[:12]
    else:
        order = np.arange(len(atoms))
    return [int(i) for i in rng.choice(order, number, replace=False)]


def say(text: str) -> None:
    """Progress is talk."""
    print(text, file=sys.stderr, flush=True)
