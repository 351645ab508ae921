"""Langevin dynamics of several trajectories at once, for a surrogate that computes many structures in one go.

torch-sim 0.3.0, the newest for Python 3.11, was measured first: one stream of random numbers for the whole batch (so no
trajectory could be gone on with alone), one periodicity for all, and at constant pressure an ideal gas whose volume
hardly fluctuates, by two forward passes a step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import BatchForces, FloatArray
from mlip_autopipec.engines.dynamics.langevin import BAR
from mlip_autopipec.engines.dynamics.phase import Ensembles, Phase
from mlip_autopipec.engines.dynamics.track import Ended, Track


class LangevinBatch:
    """Moves trajectories together, each as `LangevinRun` would move it alone: at its own conditions, by its own noise.

    They may differ in everything, and in how far they are. Each is watched, kept and saved by its own `Track`; what has
    ended, or blown up, leaves the others.
    """

    def __init__(self, tracks: Sequence[Track], forces: BatchForces) -> None:
        self._tracks = tracks
        self._forces = forces

    def run(self) -> list[Ended | DataError]:
        """Go on until each has made its last step or its watchdog has complained.

        Returns
        -------
        list
            One answer for each trajectory; an error where the start itself is no physics.
        """
        refused: dict[int, DataError] = {}
        if self._tracks:
            self._compute_starts()
        for k, track in enumerate(self._tracks):
            try:
                track.begin()
            except DataError as error:
                refused[k] = error
        moving = [track for k, track in enumerate(self._tracks) if k not in refused and not track.is_over]
        while moving:
            self._forces.begin([track.atoms for track in moving])
            while not any(track.is_over for track in moving):
                self._advance(moving)
            moving = [track for track in moving if not track.is_over]
        return [refused.get(k) or track.ended() for k, track in enumerate(self._tracks)]

    def _compute_starts(self) -> None:
        """Let every trajectory know its forces, and one that was never moved the force on its cell."""
        tracks = self._tracks
        self._forces.begin([track.atoms for track in tracks])
        phase = _phase(tracks, np.zeros((sum(len(track.atoms) for track in tracks), 3)))
        energies, forces, stresses = self._forces.compute(phase.positions, phase.cells, stress=_press(tracks))
        cell_forces = phase.cell_forces(stresses)
        _tell(tracks, energies, forces)
        for k, track in enumerate(tracks):
            if track.conditions.pressure_bar is not None and track.cell_force is None:
                track.cell_force = float(cell_forces[k])

    def _advance(self, tracks: Sequence[Track]) -> None:
        """Move all until the first of them wants to be looked at."""
        phase = _phase(tracks, np.concatenate([track.atoms.get_forces() for track in tracks]))
        rngs, press = [track.rng for track in tracks], _press(tracks)
        steps = min(track.ahead() for track in tracks)
        # What blows up is left alone until it is looked at.
        with np.errstate(all="ignore"):
            for _ in range(steps):
                phase.move(rngs)
                energies, forces, stresses = self._forces.compute(phase.positions, phase.cells, stress=press)
                phase.accept(forces, stresses)
        first = 0
        for k, track in enumerate(tracks):
            own = slice(first, first := first + len(track.atoms))
            track.atoms.set_cell(phase.cells[k])
            track.atoms.positions = phase.positions[own]
            track.atoms.set_momenta(phase.momenta[own])
            if track.conditions.pressure_bar is not None:
                track.barostat, track.cell_force = float(phase.barostat[k]), float(phase.cell_force[k])
        _tell(tracks, energies, forces)
        for track in tracks:
            track.moved(steps)


def _press(tracks: Sequence[Track]) -> bool:
    return any(track.conditions.pressure_bar is not None for track in tracks)


def _phase(tracks: Sequence[Track], forces: FloatArray) -> Phase:
    atoms, conditions = [track.atoms for track in tracks], [track.conditions for track in tracks]
    ensembles = Ensembles(
        counts=np.array([len(one) for one in atoms]),
        masses=np.concatenate([one.get_masses() for one in atoms])[:, None],
        timestep=np.array([c.timestep_fs for c in conditions]) * units.fs,
        kt=np.array([c.temperature for c in conditions]) * units.kB,
        pressure=np.array([np.nan if c.pressure_bar is None else c.pressure_bar * BAR for c in conditions]),
    )
    return Phase(
        ensembles,
        positions=np.concatenate([one.positions for one in atoms]),
        momenta=np.concatenate([one.get_momenta() for one in atoms]),
        cells=np.array([one.cell.array for one in atoms]),
        forces=forces,
        barostat=np.array([track.barostat for track in tracks]),
        cell_force=np.array([track.cell_force or 0.0 for track in tracks]),
    )


def _tell(tracks: Sequence[Track], energies: FloatArray, forces: FloatArray) -> None:
    """Let each trajectory's atoms know their energy and forces."""
    first = 0
    for k, track in enumerate(tracks):
        own = slice(first, first := first + len(track.atoms))
        track.atoms.calc = SinglePointCalculator(track.atoms, energy=float(energies[k]), forces=forces[own])
