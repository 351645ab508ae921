"""One trajectory as it lies on disk: frames, checkpoint, watchdog. Who integrates moves its atoms, and says so."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import write_extxyz

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import append_line
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.engines.dynamics.checkpoint import Checkpoint
from mlip_autopipec.engines.dynamics.watchdog import Watchdog

FRAMES: Final = "frames.extxyz"
# Looked at more often than frames are kept: what has blown up gets expensive to compute.
_LOOK_STEPS: Final = 10


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


class Track:
    """One trajectory, whose files lie in `folder`, where nobody else writes; goes on from its checkpoint.

    Parameters
    ----------
    atoms
        Where it starts; unchanged.
    checkpoint_s
        At most so much work is lost by a kill, s.
    told
        Called with the step whenever a frame is kept.

    Attributes
    ----------
    atoms : where it is; its calculator knows energy and forces there
    rng : of velocities and thermostat
    barostat : momentum of the cell's volume, ASE units; 0 at constant volume
    cell_force : on the cell's volume, eV, of momenta half a step ago; None before the first step and at constant volume
    step : MD steps so far
    """

    def __init__(
        self,
        atoms: Atoms,
        conditions: Conditions,
        folder: Path,
        *,
        checkpoint_s: float = 10.0,
        told: Callable[[int], None] = lambda step: None,
    ) -> None:
        self.conditions = conditions
        self.folder = folder
        self.rng = np.random.default_rng(conditions.seed)
        self.atoms = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        self.barostat = 0.0
        self.cell_force: float | None = None
        self.step = self._frames = 0
        self._complaint = ""
        self._told = told
        self._checkpoint_s = checkpoint_s
        self._saved = time.monotonic()
        found = Checkpoint.read(folder)
        if found is None:
            self.atoms.set_momenta(_momenta(self.atoms, conditions.temperature, self.rng))
            (folder / FRAMES).unlink(missing_ok=True)
            volume = float(self.atoms.get_volume()) if self.atoms.cell.rank == 3 else 0.0
        else:
            volume = found.volume
            self._restore(found)
        self._watchdog = Watchdog(conditions.temperature, volume)

    @property
    def is_over(self) -> bool:
        """True after the last step, and once the watchdog has complained."""
        return bool(self._complaint) or self.step >= self.conditions.steps

    def ended(self) -> Ended:
        """Return how it stands."""
        return Ended(self.step, self._frames, self._complaint)

    def begin(self) -> None:
        """Look at where it starts, whose forces are known now.

        Raises
        ------
        DataError
            The start itself is no physics for this calculator.
        """
        self._saved = time.monotonic()
        self._complaint = self._watch()
        if self._complaint and self.step == 0:
            raise DataError(f"structure: {self._complaint} at the start of MD", "look at the seed, or at the surrogate")

    def ahead(self) -> int:
        """Return the number of steps until it wants to be looked at."""
        c = self.conditions
        # Steps must not depend on where a run was interrupted: always to the next multiple.
        return min(_LOOK_STEPS - self.step % _LOOK_STEPS, c.stride - self.step % c.stride, c.steps - self.step)

    def moved(self, steps: int) -> None:
        """Count steps, no more than `ahead`; look at the atoms, keep them and save, where it is time for that."""
        due = steps == self.ahead()
        self.step += steps
        self._complaint = self._watch() if due else ""
        if due and not self._complaint and self.step % self.conditions.stride == 0:
            self._keep()
            if time.monotonic() >= self._saved + self._checkpoint_s or self.is_over:
                self._save()
                self._saved = time.monotonic()

    def _watch(self) -> str:
        with np.errstate(all="ignore"):
            return self._watchdog.complaint(self.atoms)

    def _keep(self) -> None:
        """Append the frame; its energy and forces are the surrogate's, kept for people."""
        frame = Atoms(
            self.atoms.numbers,
            positions=self.atoms.get_positions(wrap=True),
            cell=self.atoms.cell.array,
            pbc=self.atoms.pbc,
            info={"step": self.step},
        )
        # As many digits as positions have: the last ones depend on when a neighbour list was made.
        energy = round(float(self.atoms.get_potential_energy()), 8)
        frame.calc = SinglePointCalculator(frame, energy=energy)
        append_line(self.folder / FRAMES, _text(frame))
        self._frames += 1
        self._told(self.step)

    def _save(self) -> None:
        path = self.folder / FRAMES
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        Checkpoint(
            step=self.step,
            positions=self.atoms.positions.copy(),
            momenta=self.atoms.get_momenta(),
            cell=self.atoms.cell.array.copy(),
            barostat=self.barostat,
            rng=dict(self.rng.bit_generator.state),
            frames=path.stat().st_size,
            n_frames=self._frames,
            volume=self._watchdog.volume,
            cell_force=self.cell_force,
        ).write(self.folder)

    def _restore(self, found: Checkpoint) -> None:
        if len(found.positions) != len(self.atoms):
            raise DataError(f"{self.folder}: its checkpoint is of {len(found.positions)} atoms", "remove the folder")
        self.atoms.set_cell(found.cell)
        self.atoms.positions = found.positions
        self.atoms.set_momenta(found.momenta)
        self.rng.bit_generator.state = found.rng
        self.barostat, self.cell_force = found.barostat, found.cell_force
        self.step, self._frames = found.step, found.n_frames
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
