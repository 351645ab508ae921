"""MD's forces are the potential's: the bridge against python-ace's calculator and LAMMPS' own Lennard-Jones."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111

from apart import apart
from mlip_autopipec.core.errors import Crashed
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.engines.lammps.create import create_atoms
from mlip_autopipec.engines.lammps.library import open_lammps
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.settings import MDSettings, integrator_commands
from mlip_autopipec.engines.lammps.state import box_vectors, owned
from small_potentials import LennardJones, distorted, fit_emt


@pytest.fixture(scope="module")
def potentials(tmp_path_factory):
    folders = {}
    for elements in (("Al",), ("Al", "Cu")):
        folder = tmp_path_factory.mktemp("".join(elements))
        folders[elements] = fit_emt(folder, elements)
    return folders


def slab(seed: int = 0) -> Atoms:
    atoms = fcc111("Al", (2, 3, 3), a=4.05, vacuum=5.0)
    atoms.positions += np.random.default_rng(seed).normal(scale=0.1, size=atoms.positions.shape)
    return atoms


def hexagonal_plane(element: str, nearest: float, repeat: int, amplitude: float = 0.0) -> Atoms:
    """A two-dimensional crystal at z = 1.7 A."""
    rows = [
        [(i + 0.5 * (j % 2)) * nearest, j * nearest * np.sqrt(0.75), 1.7] for j in range(repeat) for i in range(repeat)
    ]
    cell = [repeat * nearest, repeat * nearest * np.sqrt(0.75), 0.0]
    atoms = Atoms(f"{element}{len(rows)}", positions=rows, cell=cell, pbc=[True, True, False])
    atoms.positions[:, :2] += np.random.default_rng(3).normal(scale=amplitude, size=(len(rows), 2))
    return atoms


CASES = {
    "one element, triclinic": (("Al",), lambda: distorted(["Al"], 50), 3),
    "two elements, triclinic": (("Al", "Cu"), lambda: distorted(["Al", "Cu"], 51), 3),
    "left-handed cell": (("Al", "Cu"), lambda: _left_handed(distorted(["Al", "Cu"], 52)), 3),
    "cell smaller than the cutoff": (("Al",), lambda: bulk("Al", a=4.0).repeat((1, 1, 2)), 3),
    "slab": (("Al",), slab, 3),
    "cluster": (("Al", "Cu"), lambda: Atoms("Al2Cu2", [[0, 0, 0], [2.6, 0, 0], [0, 2.7, 0.3], [1, 1, 2.4]]), 3),
    "two dimensions": (("Al",), lambda: hexagonal_plane("Al", 2.8, 6, 0.1), 2),
}


def _left_handed(atoms: Atoms) -> Atoms:
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    return atoms


@pytest.mark.usefixtures("python_ace")
@pytest.mark.parametrize("engine", ["ace", "pyace"])
@pytest.mark.parametrize("name", CASES)
def test_forces_are_those_of_python_ace(potentials, name, engine):
    from pyace import PyACECalculator

    elements, make, dimension = CASES[name]
    folder = potentials[elements]
    evaluator = make_evaluator(folder, engine)
    settings = MDSettings(ensemble="nvt", temperature_k=300, dimension=dimension)
    with LammpsMD(evaluator, settings) as md:
        md.start(make())
        md.gamma_every = 4
        for steps in (0, 4, 20):
            md.run(steps)
            frame = md.frame()
            alone = with_vacuum(frame, 2 * evaluator.cutoff)
            alone.calc = PyACECalculator(str(folder / "potential.yaml"))
            alone.calc.set_active_set(str(folder / "potential.asi"))
            forces = alone.get_forces()
            assert np.abs(frame.get_forces() - forces).max() < 1e-8
            assert frame.get_potential_energy() == pytest.approx(alone.get_potential_energy(), abs=1e-9)
            gamma = alone.calc.results["gamma"]
            assert np.abs(frame.arrays["gamma"] - gamma).max() < 1e-6 * max(1.0, gamma.max())
            if all(frame.pbc):
                stress = alone.get_stress()
                assert np.abs(frame.get_stress() - stress).max() < 1e-6 * np.abs(stress).max()


def with_vacuum(frame: Atoms, width: float) -> Atoms:
    """The same atoms with a period of vacuum in the open directions, for pyace's own neighbour list."""
    atoms = Atoms(frame.symbols, positions=frame.positions, cell=frame.cell, pbc=True)
    for k in np.flatnonzero(~frame.pbc):
        others = [atoms.cell[m] for m in range(3) if m != k]
        normal = np.eye(3)[k] if frame.pbc.sum() == 0 else np.cross(*others) / np.linalg.norm(np.cross(*others))
        atoms.cell[k] = normal * (np.ptp(atoms.positions @ normal) + width)
    if np.linalg.det(atoms.cell) < 0:  # pyace's own neighbour list refuses left-handed cells
        atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    return atoms


def native_lennard_jones(atoms: Atoms, settings: MDSettings, potential: LennardJones, steps: int):
    """Positions (N, 3) and box (3, 3) after `steps` with LAMMPS' own pair style."""
    md = LammpsMD(potential, settings)
    md.start(atoms)
    lmp = open_lammps()
    create_atoms(lmp, md._origin, atoms)
    md.close()
    commands = [
        f"pair_style lj/cut {potential.cutoff}",
        f"pair_coeff * * {potential.epsilon} {potential.sigma}",
        "neighbor 1.0 bin",
        "neigh_modify every 1 delay 0 check yes",
        f"timestep {settings.timestep_fs / 1000}",
        *integrator_commands(settings, settings.seed),
    ]
    if settings.dimension == 2:
        commands.append("fix plane all enforce2d")
    for command in (*commands, f"run {steps}"):
        lmp.command(command)
    order = np.argsort(owned(lmp, "id"))
    result = owned(lmp, "x")[order], box_vectors(lmp)
    lmp.close()
    return result


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
@pytest.mark.parametrize("dimension", [2, 3])
def test_lennard_jones_equals_lammps_own(ensemble, dimension):
    potential = LennardJones(cutoff=7.0, shifted=False)
    rng = np.random.default_rng(0)
    if dimension == 3:
        atoms = bulk("Ar", a=5.4, cubic=True).repeat(2)
        tilt = np.array([[0, 0, 0], [0.7, 0, 0], [0.2, -0.4, 0]])
        atoms.set_cell(atoms.cell.array + tilt, scale_atoms=True)
        atoms.set_momenta(rng.normal(scale=0.5, size=(len(atoms), 3)))
    else:
        atoms = hexagonal_plane("Ar", 3.9, 6)
        atoms.set_momenta(rng.normal(scale=0.5, size=(len(atoms), 3)) * [1, 1, 0])
    settings = MDSettings(
        ensemble=ensemble,
        temperature_k=60,
        timestep_fs=4,
        thermostat_damping_fs=200,
        barostat_damping_fs=1000,
        pressure_bar=200 if dimension == 3 else 500,
        pressure_coupling="aniso",
        dimension=dimension,
    )
    positions, box = native_lennard_jones(atoms, settings, potential, 150)
    with LammpsMD(potential, settings) as md:
        md.start(atoms)
        md.run(150)
        order = np.argsort(owned(md._lmp, "id"))
        assert np.abs(box_vectors(md._lmp) - box).max() < 1e-9
        difference = owned(md._lmp, "x")[order] - positions
        assert np.abs(difference - np.round(difference @ np.linalg.inv(box)) @ box).max() < 1e-8
    if ensemble == "npt":
        moved = np.abs(np.diag(box)[:dimension] - np.diag(atoms.cell.array)[:dimension])
        assert (moved > 1e-3).all()


@pytest.mark.parametrize("dimension", [2, 3])
def test_thermo_is_what_lammps_says(dimension):
    potential = LennardJones(cutoff=7.0, shifted=False)
    atoms = bulk("Ar", a=5.2, cubic=True).repeat(2) if dimension == 3 else hexagonal_plane("Ar", 3.7, 6)
    settings = MDSettings(ensemble="nve", temperature_k=100, timestep_fs=2, dimension=dimension)
    with LammpsMD(potential, settings) as md:
        md.start(atoms)
        md.run(20)
        # LAMMPS tells energies of a set-up only, and only those that it prints.
        md._lmp.command("thermo_style custom step temp pe ke vol press")
        md._needs_setup = True
        md.run(0)
        thermo = md.thermo()
        keys = {"pressure": "press", "temperature": "temp", "potential_energy": "pe", "kinetic_energy": "ke"}
        for ours, theirs in {**keys, "volume": "vol"}.items():
            assert thermo[ours] == pytest.approx(md._lmp.get_thermo(theirs), rel=1e-9), ours


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_a_restored_state_goes_on_bit_by_bit(potentials, tmp_path, ensemble, threads):
    """With our own engine: the number of threads fixes the order of its sums."""
    folder = potentials["Al", "Cu"]
    settings = MDSettings(ensemble=ensemble, temperature_k=600, timestep_fs=1.0)
    frames = []
    with LammpsMD(make_evaluator(folder, threads=threads), settings) as md:
        md.start(distorted(["Al", "Cu"], 60).repeat((2, 1, 1)))
        md.run(37)
        (tmp_path / "state").write_bytes(md.snapshot())
        md.run(50)
        frames.append(md.frame())
    for _ in range(2):
        with LammpsMD(make_evaluator(folder, threads=threads), settings) as other:
            other.restore(tmp_path / "state")
            other.run(50)
            frames.append(other.frame())
    uninterrupted, one, two = frames
    # Saving puts the atoms into the cell, which rounds once.
    assert apart(uninterrupted, one) < 1e-12
    assert (one.positions == two.positions).all()
    assert (one.get_velocities() == two.get_velocities()).all()
    assert (one.cell.array == two.cell.array).all()
    assert (one.arrays["gamma"] == two.arrays["gamma"]).all()


def test_atoms_on_one_place_are_a_crash_of_md(potentials):
    """So that the walker goes back to a snapshot."""
    atoms = Atoms("Al2", [[0, 0, 0], [0, 0, 1e-5]], cell=[9, 9, 9], pbc=True)
    with LammpsMD(make_evaluator(potentials["Al",]), MDSettings()) as md:
        md.start(atoms)
        with pytest.raises(Crashed, match="closer than"):
            md.run(1)
