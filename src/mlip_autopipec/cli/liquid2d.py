"""Two-dimensional Lennard-Jones liquids for the `lj2d` example, by LAMMPS' own `lj/cut`."""

from __future__ import annotations

import numpy as np
from ase import Atoms, units
from numpy.typing import NDArray

from mlip_autopipec.engines.lammps.library import open_lammps

SIGMA, EPSILON, CUTOFF = 3.4, 0.0104, 8.5  # argon-like: A, eV, A
_MASS = 39.948
_EDGE = 24.4  # A: 36 atoms at a reduced density of 0.7
_LIQUID_K = 70.0


def liquid_frames(count: int, *, seed: int, temperature: float = _LIQUID_K) -> list[Atoms]:
    """Return `count` frames of a 36-atom liquid in the xy plane, pbc (True, True, False), 0.2 ps apart."""
    lmp = open_lammps()
    try:
        lmp.commands_string(_script(seed, temperature))
        frames = []
        for _ in range(count):
            lmp.command("run 100 pre no post no")
            frames.append(_frame(np.array(lmp.gather_atoms("x", 1, 3)).reshape(-1, 3)))
        return frames
    finally:
        lmp.close()


def with_collision(atoms: Atoms, *, temperature: float = 300.0, approach_ev: float = 0.25, seed: int = 1) -> Atoms:
    """Give every atom a hot velocity, and the closest pair a head-on approach.

    Parameters
    ----------
    temperature
        K, of the Maxwell-Boltzmann velocities in the plane.
    approach_ev
        Kinetic energy of the pair's relative motion; 0.2 eV reaches 2.9 A.
    """
    hot: Atoms = atoms.copy()
    rng = np.random.default_rng(seed)
    velocities = rng.normal(0.0, np.sqrt(units.kB * temperature / _MASS), (len(hot), 3))
    velocities[:, 2] = 0.0
    distances = hot.get_all_distances(mic=True) + 1e9 * np.eye(len(hot))
    i, j = np.unravel_index(int(np.argmin(distances)), distances.shape)
    direction = hot.get_distance(int(i), int(j), mic=True, vector=True)
    direction /= np.linalg.norm(direction)
    # Relative motion with the reduced mass m/2: half of the relative speed for each atom.
    speed = np.sqrt(2 * approach_ev / (_MASS / 2)) / 2
    velocities[i], velocities[j] = speed * direction, -speed * direction
    velocities -= velocities.mean(axis=0)
    hot.set_velocities(velocities)
    return hot


def _script(seed: int, temperature: float) -> str:
    lattice = _EDGE / 6
    lines = [
        "units metal",
        "dimension 2",
        "boundary p p p",
        "atom_style atomic",
        "atom_modify map array",
        f"lattice sq {lattice}",
        "region box block 0 6 0 6 -0.5 0.5",
        "create_box 1 box",
        "create_atoms 1 box",
        f"mass 1 {_MASS}",
        f"pair_style lj/cut {CUTOFF}",
        f"pair_coeff 1 1 {EPSILON} {SIGMA}",
        f"velocity all create {3 * temperature} {seed}",
        "fix nve all nve",
        f"fix bath all langevin {temperature} {temperature} 0.2 {seed}",
        "fix plane all enforce2d",
        "timestep 0.002",
        "thermo 100000",
        "run 5000",
    ]
    return "\n".join(lines)


def _frame(positions: NDArray[np.float64]) -> Atoms:
    positions = positions.copy()
    positions[:, 2] = 10.0
    atoms = Atoms(f"Ar{len(positions)}", positions=positions, cell=[_EDGE, _EDGE, 20.0], pbc=(True, True, False))
    atoms.wrap()
    return atoms
