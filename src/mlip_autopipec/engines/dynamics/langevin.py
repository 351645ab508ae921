"""Langevin dynamics of one trajectory at constant volume or pressure, by any calculator of ASE.

BAOAB splitting (Leimkuhler & Matthews 2013, doi:10.1063/1.4802990), with a stochastic barostat for the cell's volume
(Quigley & Probert 2004, doi:10.1063/1.1755657); both as ASE has them.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from ase import units
from ase.md.langevinbaoab import LangevinBAOAB

from mlip_autopipec.engines.dynamics.track import Ended, Track

THERMOSTAT_FS: Final = 100.0
BAROSTAT_FS: Final = 1000.0
BAR: Final = 1e5 * units.Pascal


def barostat_mass(n_atoms: int) -> float:
    """Return the mass of the cell's volume, eV times ASE's unit of time squared.

    Its period is the one that ASE's heuristic gives: a quarter of `BAROSTAT_FS` (66 fs for 256 atoms at 1e4).
    """
    return float(((BAROSTAT_FS / 4.0) / 1.66 * n_atoms ** (1.0 / 6.0)) ** 2)


class LangevinRun:
    """Moves one trajectory.

    Parameters
    ----------
    calculator
        Energy, forces, and at constant pressure stress, in ASE's units.
    """

    def __init__(self, track: Track, calculator: Any) -> None:
        self.track = track
        track.atoms.calc = calculator
        self._md = self._integrator()
        if track.cell_force is not None:
            # The integrator takes it before the last half step of momenta; anew it would be that after it.
            self._md.force_eps = track.cell_force

    def run(self) -> Ended:
        """Go on to the last step, or until the watchdog complains.

        Raises
        ------
        DataError
            The start itself is no physics for this calculator.
        """
        track, md = self.track, self._md
        track.begin()
        while not track.is_over:
            ahead = track.ahead()
            with np.errstate(all="ignore"):
                for _ in range(ahead):
                    md.step()
            if track.conditions.pressure_bar is not None:
                track.barostat, track.cell_force = float(md.p_eps), float(md.force_eps)
            track.moved(ahead)
        return track.ended()

    def _integrator(self) -> LangevinBAOAB:
        track, c = self.track, self.track.conditions
        pressure: dict[str, Any] = {}
        if c.pressure_bar is not None:
            pressure = {
                "externalstress": -c.pressure_bar * BAR, "hydrostatic": True, "P_tau": BAROSTAT_FS * units.fs,
                "P_mass": barostat_mass(len(track.atoms)),
            }  # fmt: skip
        md = LangevinBAOAB(
            track.atoms, c.timestep_fs * units.fs, temperature_K=c.temperature, T_tau=THERMOSTAT_FS * units.fs,
            rng=track.rng, **pressure,
        )  # fmt: skip
        md.p_eps = track.barostat
        return md
