"""MD frame -> watch: gamma per atom -> halt.

Reads: the frame at which MD halted, with gamma per atom. Writes: `walkers/wNN/halt.json` (through `store.halts`).
Next: `carve` cuts the region around the atom that this stage picks.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.engines.lammps.schedule import Schedule
from mlip_autopipec.engines.lammps.settings import MonteCarlo

Ensemble = Literal["nve", "nvt", "langevin", "npt"]
Coupling = Literal["iso", "aniso", "tri"]
Engine = Literal["auto", "ace", "pyace", "native"]
Temperature = Annotated[float, Field(ge=0, le=50_000, description="K")]
# Ten times lighter than hydrogen needs, ten times larger than gold allows: outside of it the unit is wrong.
Timestep = Annotated[float, Field(ge=0.01, le=20, description="fs")]
Pressure = Annotated[float, Field(ge=-1e7, le=1e7, description="bar")]
Density = Annotated[float, Field(ge=0, le=100, description="g/cm^3")]
Steps = Annotated[int, Field(ge=1, description="MD steps of one walker")]

# Each is a process with a LAMMPS of its own (some 200 MB) on the otf-runner's host: the cores of a large node.
_MOST_WALKERS = 256


class SenseSettings(BaseModel):
    """Beyond which a halted frame makes no sense: its walker goes back, looks at every step, and halts earlier."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    contact: float = Field(
        0.5, ge=0, lt=1, description="shortest distance / sum of the covalent radii; no bond is shorter than 0.8"
    )
    force: float = Field(100.0, gt=0, description="eV/A, largest force on an atom; a molten metal has about 10")
    temperature: float = Field(
        10.0, gt=1, description="largest temperature / what the thermostat is set to; not in nve"
    )
    gamma: float = Field(
        100.0, gt=1, description="gamma / uncertainty_threshold above which an earlier frame says more"
    )


class WalkerOverrides(BaseModel):
    """What one walker does differently from the `otf` section."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: Temperature | None = Field(None, description="K")
    pressure: Pressure | None = Field(None, description="bar")
    timestep: Timestep | None = Field(None, description="fs")
    steps: Steps | None = Field(None, description="MD steps")
    ensemble: Ensemble | None = Field(None, description="nve, nvt, langevin or npt")
    seed: int | None = Field(None, ge=1, description="seed of velocities and thermostat")
    structure: Path | None = Field(None, description="file with the one structure it starts from, not start.structure")
    pressure_coupling: Coupling | None = Field(None, description="iso, aniso or tri; npt only")
    schedule: Schedule | None = Field(None, description="ramps, cycles, strain")
    density_bounds: tuple[Density, Density] | None = Field(None, description="g/cm^3, smallest and largest")
    monte_carlo: MonteCarlo | None = Field(None, description="swaps and jumps between MD steps")


def _kind_of_walkers(value: Any) -> str | None:
    if isinstance(value, list | tuple):
        return "list"
    return "number" if isinstance(value, int | float | str) and not isinstance(value, bool) else None


Walkers = Annotated[
    Annotated[int, Field(ge=1, le=_MOST_WALKERS), Tag("number")]
    | Annotated[tuple[WalkerOverrides, ...], Field(min_length=1, max_length=_MOST_WALKERS), Tag("list")],
    Discriminator(
        _kind_of_walkers,
        custom_error_type="walkers",
        custom_error_message="give a number of walkers, or a list with one entry for each",
    ),
]


class OtfSettings(BaseModel):
    """On-the-fly MD: how the walkers move and when they stop to ask."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: Temperature = Field(300.0, description="K; also the temperature of new velocities")
    pressure: Pressure = Field(0.0, description="bar; used by npt only")
    timestep: Timestep = Field(1.0, description="fs; 1 fs suits metals, 0.5 fs light elements")
    pressure_coupling: Coupling = Field("iso", description="npt: what the barostat may change; iso keeps the shape")
    steps: Steps = Field(10_000, description="MD steps that each walker has to make; a schedule has steps of its own")
    ensemble: Ensemble = Field("nvt", description="nve, nvt (Nose-Hoover), langevin or npt")
    schedule: Schedule | None = Field(
        None, description="ramps, cycles (melt-quench) and strain; the values above hold before its first segment"
    )
    density_bounds: tuple[Density, Density] | None = Field(
        None, description="g/cm^3, smallest and largest: a walker that leaves them ends as stuck; wise with npt"
    )
    monte_carlo: MonteCarlo | None = Field(
        None, description="swaps of elements and jumps into vacancies between MD steps, for alloys and defects"
    )
    npt_without_stress: bool = Field(
        False, description="let npt walkers begin before the fit has labels with stress; else they wait for them"
    )
    engine: Engine = Field(
        "auto",
        description="who evaluates the potential: native (LAMMPS' ML-PACE, in a LAMMPS that has it), ace (our own), "
        "pyace (python-ace: academic licence, an extra); auto: native where LAMMPS can, else ace",
    )
    # More threads than CPUs only wait for each other; the same number gives the same bits.
    threads: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="threads of each walker's ace engine; null: OMP_NUM_THREADS, else its share of the CPUs, at most 8",
    )
    nice: int = Field(
        10,
        ge=0,
        le=19,
        description="Unix niceness of walkers: where CPUs are short they give way to the labels and fits that others "
        "wait for; 0: not at all",
    )
    walkers: Walkers = Field(
        1, description="number of equal walkers (different seeds), or a list of what each one does differently"
    )
    uncertainty_threshold: float = Field(
        5.0, gt=1, description="gamma above which MD halts; 1 is the border of extrapolation, so it must be larger"
    )
    target_force_error: float | None = Field(
        None,
        gt=0,
        le=100,
        description="eV/A; if given, the halt level follows the audits: 95 % of what MD visits below it is better; "
        "uncertainty_threshold holds until there are 30 audits",
    )
    selection_threshold: float = Field(
        2.0,
        gt=1,
        description="gamma above which a frame is collected without a halt; above the halt level nothing is collected",
    )
    max_candidates: int = Field(
        12, ge=0, le=1000, description="regions that a walker collects before it sends the best; 0 collects none"
    )
    regions_per_frame: int = Field(
        3, ge=1, le=100, description="distinct regions of one frame that may be carved, at local maxima of gamma"
    )
    audit_fraction: float = Field(
        0.05,
        ge=0,
        le=0.9,
        description="share of the labels that are audits: random environments below the halt level, never trained on",
    )
    min_audits: int | None = Field(
        None,
        ge=0,
        le=100_000,
        description="audits of the whole run, spread over its steps, however few labels it needs; null: 60, which "
        "convergence takes, with target_force_error, else 0; with target_force_error the first 30 come with the first "
        "labels, one with each",
    )
    check_frequency: int = Field(10, ge=1, description="MD steps between two looks at gamma")
    while_waiting: Literal["park", "continue_other_region", "finish"] = Field(
        "park",
        description="what a halted walker does until its label is in a version: park (burns no CPU), "
        "continue_other_region (new velocities from its last snapshot), finish (ends; the next start goes on)",
    )
    # Each is looked at again with each new version; and where every way leads into the unknown, labels help, not MD.
    max_open_halts: int = Field(
        3, ge=1, le=100, description="continue_other_region: halts of one walker that may wait at once; then it parks"
    )
    max_refused_halts: int = Field(
        20, ge=1, description="halts of one walker without a cell that is worth a label; then it ends as stuck"
    )
    max_extractions: int = Field(100, ge=0, description="regions that one walker may send to labelling; then it ends")
    max_extractions_run: int | None = Field(
        None, ge=0, description="regions that all walkers together may send; null: only the limit of each walker"
    )
    snapshot_interval: int = Field(
        100,
        ge=1,
        description="MD steps between safe snapshots: what a kill can cost, with the few that MD makes while the last "
        "one is on its way to the disk",
    )
    rewind_steps: int = Field(
        200, ge=1, description="MD steps that a walker can go back along its snapshots when a frame makes no sense"
    )
    rewind_timestep: float = Field(
        1.0, gt=0, le=1, description="time step / timestep after a rewind, until MD is past what went wrong"
    )
    sense: SenseSettings = Field(default_factory=SenseSettings, description="when a frame makes no sense")
    reseed_limit: int = Field(3, ge=1, description="failed healings in a row after which a walker gives up as stuck")
    thermostat_damping: float = Field(100.0, gt=0, description="fs; LAMMPS advises about 100 time steps")
    barostat_damping: float = Field(1000.0, gt=0, description="fs; LAMMPS advises about 1000 time steps")
    seed: int = Field(1, ge=1, description="seed from which every walker's own seed is made")


class WalkerPlan(BaseModel):
    """What one walker does, overrides applied. Units as in `OtfSettings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    temperature: float
    pressure: float
    timestep: float
    steps: int
    ensemble: Ensemble
    seed: int
    structure: Path | None = None
    pressure_coupling: Coupling = "iso"
    schedule: Schedule | None = None
    density_bounds: tuple[float, float] | None = None
    monte_carlo: MonteCarlo | None = None


# What a walker takes from the `otf` section unless it says otherwise itself.
_SHARED = (
    "temperature", "pressure", "timestep", "steps", "ensemble", "pressure_coupling", "schedule", "density_bounds",
    "monte_carlo",
)  # fmt: skip


def walker_plans(otf: OtfSettings) -> list[WalkerPlan]:
    """Return one plan per walker, named w00, w01, ...

    A walker with a schedule makes the steps of the schedule, unless it has a number of its own.
    """
    given = (WalkerOverrides(),) * otf.walkers if isinstance(otf.walkers, int) else otf.walkers
    plans = []
    for number, overrides in enumerate(given):
        own = {name: getattr(overrides, name) for name in WalkerOverrides.model_fields}
        values: dict[str, Any] = {key: getattr(otf, key) for key in _SHARED}
        values["seed"] = otf.seed + 1000 * number
        values |= {name: value for name, value in own.items() if value is not None}
        if values["schedule"] is not None and overrides.steps is None:
            values["steps"] = values["schedule"].steps
        plans.append(WalkerPlan(name=f"w{number:02d}", **values))
    return plans


def too_close(frame: Atoms, limits: SenseSettings) -> str:
    """Return which atoms are nearer than any bond, so that nobody should be asked about them; empty if none are."""
    if len(frame) < 2 or not limits.contact:
        return ""
    radii = limits.contact * covalent_radii[frame.numbers]
    near = neighbourhood(frame, float(2 * radii.max()), sorted(set(frame.get_chemical_symbols())))
    one = np.repeat(np.arange(near.n_owned), np.diff(near.first))
    two = near.owners[near.neighbours]
    distances = np.linalg.norm(near.positions[near.neighbours] - near.positions[one], axis=1)
    room = distances - radii[one] - radii[two]
    if not len(room) or room.min() >= 0:
        return ""
    k = int(np.argmin(room))
    return f"atoms {one[k]} and {two[k]} are {distances[k]:.2f} A apart"


def spike(frame: Atoms, limits: SenseSettings, threshold: float, thermostat: float | None) -> str:
    """Return what says that MD went wrong before this frame; empty if nothing does.

    Such a frame may be a question all the same, if there was no better one before: what is wrong may be the potential.

    Parameters
    ----------
    frame
        With gamma, momenta, and forces in eV/A.
    threshold
        gamma above which MD halts.
    thermostat
        K that the thermostat is set to; None without one.
    """
    forces = np.linalg.norm(frame.get_forces(), axis=1)
    if not forces.max() <= limits.force:
        return f"the force on atom {int(np.argmax(forces))} is {forces.max():.3g} eV/A"
    if thermostat is not None and frame.get_temperature() > limits.temperature * thermostat:
        return f"the temperature is {frame.get_temperature():.0f} K, where the thermostat is set to {thermostat:.0f} K"
    gamma = float(frame.arrays["gamma"].max())
    if gamma > limits.gamma * threshold:
        return f"gamma is {gamma:.3g}, far above {threshold:g}"
    return ""


# Infinity is a legal gamma (a pair that no basis function sees), but no legal JSON number.
_LARGEST_GAMMA = 1e9


def most_uncertain_atom(frame: Atoms) -> tuple[int, float]:
    """Return index and gamma (at most 1e9) of the atom with the largest gamma.

    Parameters
    ----------
    frame
        Atoms with the per-atom array `gamma`, dimensionless.

    Raises
    ------
    DataError
        The frame has no gamma, or gamma is NaN.
    """
    gamma = frame.arrays.get("gamma")
    if gamma is None:
        raise DataError("halted frame: has no gamma per atom", "the potential needs its active set (.asi)")
    if np.isnan(gamma).any():
        raise DataError("halted frame: gamma is not a number", "the active set does not belong to the potential")
    index = int(np.argmax(gamma))
    return index, min(float(gamma[index]), _LARGEST_GAMMA)
