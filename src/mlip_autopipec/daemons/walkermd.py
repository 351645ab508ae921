"""What MD a walker runs: its settings, its engine, and the script with which a person can run it by hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from ase import Atoms

from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.daemons.evaluators import overlay_of
from mlip_autopipec.stages.watch import OtfSettings, WalkerPlan

if TYPE_CHECKING:
    from mlip_autopipec.engines.lammps.outcome import MovingAtoms
    from mlip_autopipec.engines.lammps.settings import LammpsSettings, MDSettings


def dimension_of(atoms: Atoms) -> Literal[2, 3]:
    """Return 2 for atoms in one plane that is periodic in both of its directions, else 3."""
    has_volume = atoms.cell.rank == 3 and atoms.cell.volume > 0
    heights = atoms.get_scaled_positions(wrap=False)[:, 2] if has_volume else atoms.positions[:, 2]
    return 2 if list(atoms.pbc) == [True, True, False] and float(np.ptp(heights)) < 1e-9 else 3


def md_settings(plan: WalkerPlan, otf: OtfSettings, dimension: Literal[2, 3]) -> MDSettings:
    """Return what the MD engine is told of one walker."""
    from mlip_autopipec.engines.lammps.settings import MDSettings

    return MDSettings(
        ensemble=plan.ensemble,
        temperature_k=plan.temperature,
        pressure_bar=plan.pressure,
        timestep_fs=plan.timestep,
        thermostat_damping_fs=otf.thermostat_damping,
        barostat_damping_fs=otf.barostat_damping,
        dimension=dimension,
        seed=plan.seed,
        pressure_coupling=plan.pressure_coupling,
        schedule=plan.schedule,
        density_bounds=plan.density_bounds,
        density_every=otf.check_frequency,
        monte_carlo=plan.monte_carlo,
    )


def write_script(
    folder: Path,
    start: Atoms,
    evaluator: Evaluator,
    version: Path,
    settings: MDSettings,
    plan: WalkerPlan,
    otf: OtfSettings,
) -> None:
    """Write `in.lammps` and `start.data` into the walker's folder: the whole walk with this version, to run by hand."""
    from mlip_autopipec.engines.lammps.native import NativePotential
    from mlip_autopipec.engines.lammps.script import Watch, write_whole_script

    files = ((version / "potential.yaml").resolve(), (version / "potential.asi").resolve())
    potential = NativePotential(evaluator, files, overlay=overlay_of(evaluator))
    watch = Watch(otf.check_frequency, otf.uncertainty_threshold)
    write_whole_script(folder, start, settings, potential, watch, plan.steps)


def make_md(
    evaluator: Evaluator,
    settings: MDSettings,
    log_file: Path,
    lammps: LammpsSettings | None = None,
    folder: Path | None = None,
) -> MovingAtoms:
    """Return the MD engine of one walker.

    Parameters
    ----------
    folder
        Where `lammps.command` runs.
    """
    if lammps is not None and lammps.command is not None and folder is not None:
        from mlip_autopipec.engines.lammps.program import LammpsProgram
        from mlip_autopipec.runtime.tether import tethered

        return LammpsProgram(evaluator, settings, lammps, folder / "lammps", wrap=tethered)
    from mlip_autopipec.engines.lammps.md import LammpsMD

    return LammpsMD(evaluator, settings, log=log_file)
