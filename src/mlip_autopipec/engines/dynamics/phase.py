"""Positions and momenta of several structures, and their Langevin dynamics, all at once.

The same BAOAB splitting and barostat as `langevin` (doi:10.1063/1.4802990, doi:10.1063/1.1755657), drawing the same
random numbers: a structure moves as it would alone through ASE, to rounding. Where forces come from is not known here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import units
from numpy.typing import NDArray

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.engines.dynamics.langevin import BAROSTAT_FS, THERMOSTAT_FS, barostat_mass


@dataclass(frozen=True, eq=False)
class Ensembles:
    """What each of M structures of N atoms in all is held at; everything in ASE's units.

    Attributes
    ----------
    counts : (M,) atoms of each structure
    masses : (N, 1)
    timestep : (M,)
    kt : (M,) eV
    pressure : (M,) eV/A^3; NaN at constant volume
    """

    counts: NDArray[np.int64]
    masses: FloatArray
    timestep: FloatArray
    kt: FloatArray
    pressure: FloatArray

    @property
    def owner(self) -> NDArray[np.int64]:
        """(N,) the structure of each atom."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


class Phase:
    """A point in phase space that moves. Its arrays are its own.

    Attributes
    ----------
    positions, momenta, forces : (N, 3)
    cells : (M, 3, 3)
    barostat : (M,) momentum of each cell's volume; 0 at constant volume
    cell_force : (M,) eV, on each cell's volume, of momenta half a step ago; 0 at constant volume
    """

    def __init__(
        self, ensembles: Ensembles, positions: FloatArray, momenta: FloatArray, cells: FloatArray, forces: FloatArray,
        barostat: FloatArray, cell_force: FloatArray,
    ) -> None:  # fmt: skip
        self.positions, self.momenta, self.cells, self.forces = positions, momenta, cells, forces
        self.barostat, self.cell_force = barostat, cell_force
        e = ensembles
        self._counts, self._owner, self._masses, self._kt = e.counts, e.owner, e.masses, e.kt
        self._moving = np.isfinite(e.pressure)
        self._pressure = np.where(self._moving, e.pressure, 0.0)
        self._mass = np.array([barostat_mass(int(n)) for n in e.counts])
        self._half = 0.5 * e.timestep
        self._half_atom = self._half[self._owner, None]
        damping, cell_damping = e.timestep / (THERMOSTAT_FS * units.fs), e.timestep / (BAROSTAT_FS * units.fs)
        self._timestep, self._damping, self._cell_drag = e.timestep, damping, np.exp(-cell_damping)
        kick = np.sqrt(e.kt * (1.0 - np.exp(-2.0 * damping)))
        self._kick = kick[self._owner, None] * np.sqrt(e.masses)
        self._cell_kick = np.sqrt(e.kt * (1.0 - np.exp(-2.0 * cell_damping)) * self._mass)

    def move(self, rngs: Sequence[np.random.Generator]) -> None:
        """Make one step up to where new forces are needed: half a kick, half a drift, the thermostat, half a drift.

        Parameters
        ----------
        rngs
            M generators, each the source of one structure's noise.
        """
        self._half_kick()
        self._scale()
        self._half_drift()
        self._thermostat(rngs)
        self._half_drift()
        self._scale()

    def accept(self, forces: FloatArray, stresses: FloatArray) -> None:
        """End the step: the other half of the kick, by the forces and stresses (M, 3, 3) at the new positions."""
        self.forces = forces
        self.cell_force = self.cell_forces(stresses)
        self._half_kick()

    def cell_forces(self, stresses: FloatArray) -> FloatArray:
        """Return (M,) the force on each cell's volume at the present momenta, eV; 0 at constant volume."""
        kinetic = np.bincount(self._owner, ((self.momenta**2) / self._masses).sum(axis=1), len(self._counts))
        volumes = np.abs(np.linalg.det(self.cells))
        virials = -volumes * np.where(self._moving, np.trace(stresses, axis1=1, axis2=2), 0.0)
        found = kinetic + virials - 3.0 * volumes * self._pressure + kinetic / self._counts
        return np.where(self._moving, found, 0.0)

    def _half_kick(self) -> None:
        self.barostat = self.barostat + self._half * self.cell_force
        self.momenta = self.momenta + self._half_atom * self.forces

    def _half_drift(self) -> None:
        self.positions = self.positions + self._half_atom * self.momenta / self._masses

    def _scale(self) -> None:
        """Let the cells grow or shrink for half a step, and the positions in them."""
        factors = np.exp(self._half * self.barostat / self._mass)
        self.cells = self.cells * factors[:, None, None]
        self.positions = self.positions * factors[self._owner, None]

    def _thermostat(self, rngs: Sequence[np.random.Generator]) -> None:
        # In the order in which ASE draws them.
        noise, cell_noise = [], np.zeros(len(rngs))
        for k, rng in enumerate(rngs):
            noise.append(rng.normal(size=(int(self._counts[k]), 3)))
            if self._moving[k]:
                cell_noise[k] = rng.normal()
        # 3 N degrees of freedom: the thermostat does not keep the total momentum.
        growth = (1.0 + 1.0 / self._counts) * self.barostat / self._mass
        drag = np.exp(-self._damping - growth * self._timestep)
        self.momenta = drag[self._owner, None] * self.momenta + self._kick * np.concatenate(noise)
        self.barostat = self._cell_drag * self.barostat + self._cell_kick * cell_noise
