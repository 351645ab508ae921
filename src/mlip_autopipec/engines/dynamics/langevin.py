"""Langevin dynamics at constant volume or pressure; frames are streamed to a file, and a kill costs a few seconds.

BAOAB splitting (Leimkuhler & Matthews 2013, doi:10.1063/1.4802990), with a stochastic barostat for the cell's volume
(Quigley & Probert 2004, doi:10.1063/1.1755657); both as ASE has them.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz
from ase.md.langevinbaoab import LangevinBAOAB

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import append_line
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.engines.dynamics.checkpoint import Checkpoint
from mlip_autopipec.engines.dynamics.watchdog import Watchdog

FRAMES: Final = "frames.extxyz"
_THERMOSTAT_FS: Final = 100.0
_BAROSTAT_FS: Final = 1000.0
# Looked at more often than frames are kept: what has blown up gets expensive to compute.
_LOOK_STEPS: Final = 10
_BAR: Final = 1e5 * units.Pascal


@dataclass(frozen=True)
class Conditions:
    """Of one trajectory.

    Attributes
    ----------
    temperature : K
    pressure_bar : bar, None at constant volume
    steps, stride : in all; between two frames
    timestep_fs : fs
    seed : of velocities and thermostat
    """

    temperature: float
    pressure_bar: float | None
    steps: int
    stride: int
    timestep_fs: float
    seed: int


@dataclass(frozen=True)
class Ended:
    """How a trajectory ended: steps made, frames kept, and why it was stopped before its steps (else empty)."""

    step: int
    frames: int
    complaint: str


class LangevinRun:
    """One trajectory, whose files lie in `folder`, of which nobody else writes there.

    Parameters
    ----------
    atoms
        Where it starts; unchanged.
    calculator
        Energy, forces, and at constant pressure stress, in ASE's units.
    checkpoint_s
        At most so much work is lost by a kill, s.
    told
        Called with the step whenever a frame is kept.
    """

    def __init__(
        self,
        atoms: Atoms,
        calculator: Any,
        conditions: Conditions,
        folder: Path,
        *,
        checkpoint_s: float = 10.0,
        told: Callable[[int], None] = lambda step: None,
    ) -> None:
        self.conditions = conditions
        self.folder = folder
        self._told = told
        self._checkpoint_s = checkpoint_s
        self._rng = np.random.default_rng(conditions.seed)
        self._atoms = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        self._step = self._frames = 0
        found = Checkpoint.read(folder)
        if found is None:
            self._atoms.set_momenta(_momenta(self._atoms, conditions.temperature, self._rng))
            (folder / FRAMES).unlink(missing_ok=True)
            volume = float(self._atoms.get_volume()) if self._atoms.cell.rank == 3 else 0.0
        else:
            volume = found.volume
            self._restore(found)
        self._watchdog = Watchdog(conditions.temperature, volume)
        self._atoms.calc = calculator
        self._md = self._integrator(0.0 if found is None else found.barostat)
        if found is not None and found.cell_force is not None:
            # The integrator takes it before the last half step of momenta; anew it would be that after it.
            self._md.force_eps = found.cell_force

    def run(self) -> Ended:
        """Go on to the last step, or until the watchdog complains.

        Raises
        ------
        DataError
            The start itself is no physics for this calculator.
        """
        if complaint := self._complaint():
            if self._step == 0:
                raise DataError(f"structure: {complaint} at the start of MD", "look at the seed, or at the surrogate")
            return Ended(self._step, self._frames, complaint)
        saved = time.monotonic()
        c = self.conditions
        while self._step < c.steps:
            # Steps must not depend on where a run was interrupted: always to the next multiple.
            ahead = min(_LOOK_STEPS - self._step % _LOOK_STEPS, c.stride - self._step % c.stride, c.steps - self._step)
            with np.errstate(all="ignore"):
                for _ in range(ahead):
                    self._md.step()
            self._step += ahead
            if complaint := self._complaint():
                return Ended(self._step, self._frames, complaint)
            if self._step % c.stride == 0:
                self._keep()
                if time.monotonic() >= saved + self._checkpoint_s or self._step >= c.steps:
                    self._save()
                    saved = time.monotonic()
        return Ended(self._step, self._frames, "")

    def _complaint(self) -> str:
        with np.errstate(all="ignore"):
            return self._watchdog.complaint(self._atoms)

    def _integrator(self, barostat: float) -> LangevinBAOAB:
        c = self.conditions
        pressure: dict[str, Any] = {}
        if c.pressure_bar is not None:
            tau = _BAROSTAT_FS * units.fs
            # The period that ASE's heuristic gives this mass: a quarter of `P_tau` (66 fs for 256 atoms at 1e4).
            mass = ((tau / 4.0) / (1.66 * units.fs) * len(self._atoms) ** (1.0 / 6.0)) ** 2
            pressure = {"externalstress": -c.pressure_bar * _BAR, "hydrostatic": True, "P_tau": tau, "P_mass": mass}
        md = LangevinBAOAB(
            self._atoms, c.timestep_fs * units.fs, temperature_K=c.temperature, T_tau=_THERMOSTAT_FS * units.fs,
            rng=self._rng, **pressure,
        )  # fmt: skip
        md.p_eps = barostat
        return md

    def _keep(self) -> None:
        """Append the frame; its energy and forces are the surrogate's, kept for people."""
        frame = Atoms(
            self._atoms.numbers,
            positions=self._atoms.get_positions(wrap=True),
            cell=self._atoms.cell.array,
            pbc=self._atoms.pbc,
            info={"step": self._step},
        )
        # As many digits as positions have: the last ones depend on when a neighbour list was made.
        energy = round(float(self._atoms.get_potential_energy()), 8)
        frame.calc = SinglePointCalculator(frame, energy=energy)
        append_line(self.folder / FRAMES, _text(frame))
        self._frames += 1
        self._told(self._step)

    def _save(self) -> None:
        path = self.folder / FRAMES
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        state = self._rng.bit_generator.state
        Checkpoint(
            step=self._step,
            positions=self._atoms.positions.copy(),
            momenta=self._atoms.get_momenta(),
            cell=self._atoms.cell.array.copy(),
            barostat=float(getattr(self._md, "p_eps", 0.0)),
            rng=dict(state),
            frames=path.stat().st_size,
            n_frames=self._frames,
            volume=self._watchdog.volume,
            cell_force=None if self.conditions.pressure_bar is None else float(self._md.force_eps),
        ).write(self.folder)

    def _restore(self, found: Checkpoint) -> None:
        if len(found.positions) != len(self._atoms):
            raise DataError(f"{self.folder}: its checkpoint is of {len(found.positions)} atoms", "remove the folder")
        self._atoms.set_cell(found.cell)
        self._atoms.positions = found.positions
        self._atoms.set_momenta(found.momenta)
        self._rng.bit_generator.state = found.rng
        self._step, self._frames = found.step, found.n_frames
        # Frames that came after the checkpoint come again.
        os.truncate(self.folder / FRAMES, found.frames)


def _momenta(atoms: Atoms, temperature: float, rng: np.random.Generator) -> FloatArray:
    """Return (N, 3) momenta of a Maxwell-Boltzmann distribution without drift, ASE units."""
    masses = atoms.get_masses()[:, None]
    momenta = rng.normal(size=(len(atoms), 3)) * np.sqrt(masses * units.kB * temperature)
    return np.asarray(momenta - masses * momenta.sum(axis=0) / masses.sum())


def _text(frame: Atoms) -> str:
    text = io.StringIO()
    write_extxyz(text, [frame])
    return text.getvalue()
