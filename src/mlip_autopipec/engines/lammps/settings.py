"""What the user chooses about molecular dynamics."""

from __future__ import annotations

import shlex
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlip_autopipec.engines.lammps.schedule import Course, Leg, Schedule, SetPoints, free_axes

LARGEST_SEED = 899_999_999


class MonteCarlo(BaseModel):
    """Moves between MD steps that diffusion would take ages for: atoms change places, or jump into a vacancy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = Field(100, ge=1, description="MD steps between two events")
    swaps: int = Field(
        0, ge=0, le=10_000, description="attempts per event to let two atoms of different elements change places"
    )
    pairs: tuple[tuple[str, str], ...] = Field(
        (), description="pairs of elements that may change places, e.g. [[Al, Cu]]; empty: every two elements"
    )
    jumps: int = Field(
        0, ge=0, le=1_000_000, description="attempts per event to move one atom by a jump in any direction"
    )
    jump_length: tuple[float, float] = Field(
        (2.0, 4.0), description="A, shortest and longest jump: around the nearest-neighbour distance"
    )
    closest: float = Field(
        1.6,
        gt=0,
        le=10,
        description="A; a jump that ends nearer to another atom is refused without an evaluation",
    )

    @model_validator(mode="after")
    def _does_something(self) -> MonteCarlo:
        if self.swaps + self.jumps == 0:
            raise ValueError("swaps: 0, and jumps: 0: nothing would be attempted")
        if not 0 < self.jump_length[0] < self.jump_length[1] <= 30:
            raise ValueError(f"jump_length: {list(self.jump_length)}: give [shortest, longest] in A, both above 0")
        if same := [a for a, b in self.pairs if a == b]:
            raise ValueError(f"pairs: [{same[0]}, {same[0]}]: two atoms of one element are the same after a swap")
        return self


class MDSettings(BaseModel):
    """Ensemble, time step, thermostat and schedule of one MD run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ensemble: Literal["nve", "nvt", "langevin", "npt"] = Field(
        "nvt", description="nvt and npt: Nose-Hoover chains; langevin: Brownian noise, which forgets the past"
    )
    temperature_k: float = Field(300.0, ge=0, description="K; in nve the temperature of the first velocities")
    pressure_bar: float = Field(0.0, description="bar, positive in compression, npt only; in two dimensions bar*A")
    pressure_coupling: Literal["iso", "aniso", "tri"] = Field(
        "iso", description="npt: which cell changes are allowed; iso keeps the shape"
    )
    timestep_fs: float = Field(1.0, gt=0, le=20, description="fs; 1 is safe for metals, 0.25 with hydrogen")
    thermostat_damping_fs: float = Field(100.0, gt=0, description="fs; about 100 time steps")
    barostat_damping_fs: float = Field(1000.0, gt=0, description="fs; about 1000 time steps")
    dimension: Literal[2, 3] = Field(3, description="2: atoms stay in the plane of the first two cell vectors")
    seed: int = Field(1, ge=1, le=LARGEST_SEED, description="of the first velocities, the Langevin noise, Monte Carlo")
    # Measured with cutoffs of 5.5 and 7 A: at 1.0 the neighbours beyond the cutoff cost more than rebuilding does.
    skin: float = Field(0.8, gt=0, description="A beyond the cutoff; larger lists are rebuilt less often")
    schedule: Schedule | None = Field(None, description="ramps, cycles, strain; before it the values above hold")
    density_bounds: tuple[float, float] | None = Field(
        None, description="g/cm^3, smallest and largest; MD ends at the step that leaves them"
    )
    density_every: int = Field(10, ge=1, description="MD steps between two looks at the density")
    monte_carlo: MonteCarlo | None = Field(None, description="swaps and jumps between MD steps")

    @model_validator(mode="after")
    def _thermostats_need_heat(self) -> MDSettings:
        if self.ensemble != "nve" and self.temperature_k <= 0:
            raise ValueError(f"temperature_k: {self.temperature_k} K is too cold for a thermostat ({self.ensemble})")
        if self.monte_carlo is not None and self.ensemble == "nve":
            raise ValueError("monte_carlo: needs a temperature, and nve keeps none: take nvt, langevin or npt")
        return self

    @model_validator(mode="after")
    def _bounds_are_bounds(self) -> MDSettings:
        if self.density_bounds is not None:
            low, high = self.density_bounds
            if not 0 <= low < high:
                raise ValueError(f"density_bounds: [{low}, {high}]: give [smallest, largest] in g/cm^3")
            if self.dimension == 2:
                raise ValueError("density_bounds: a two-dimensional run has no density in g/cm^3")
        return self

    @model_validator(mode="after")
    def _schedule_fits(self) -> MDSettings:
        schedule, npt = self.schedule, self.ensemble == "npt"
        if schedule is None:
            return self
        if schedule.heated and self.ensemble == "nve":
            raise ValueError("schedule: sets a temperature, and nve has no thermostat: take nvt, langevin or npt")
        if any(min(s.temperature) <= 0 for s in schedule.segments if s.temperature is not None):
            raise ValueError("schedule: a temperature of 0 K is too cold for a thermostat")
        if schedule.pressed and not npt:
            raise ValueError(f"schedule: sets a pressure, and {self.ensemble} has no barostat: take npt")
        if schedule.strained and npt and self.pressure_coupling != "aniso":
            raise ValueError(
                f"schedule: sets a strain, and a barostat that is {self.pressure_coupling} moves the same edges: take "
                "pressure_coupling aniso (the strained axes are then left out of it), or nvt"
            )
        if npt and not self.barostat_axes:
            raise ValueError("schedule: strains every axis, so that nothing is left to the barostat: take nvt")
        if self.dimension == 2 and schedule.strained & {"zz", "yz", "xz"}:
            raise ValueError("schedule: sets a strain along z, and a two-dimensional run has no z")
        return self

    @property
    def barostat_axes(self) -> list[str]:
        """Axes that a barostat may change."""
        axes = free_axes(self.schedule.strained if self.schedule else frozenset())
        return [axis for axis in axes if self.dimension == 3 or axis != "z"]

    def course(self) -> Course:
        """Return the set-points of every step."""
        return Course(self.schedule, SetPoints(self.temperature_k, self.pressure_bar))


class LammpsSettings(BaseModel):
    """How LAMMPS is run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str | None = Field(
        None,
        description="run LAMMPS as a program, e.g. `mpirun -np 64 lmp`; it needs ML-PACE. null: its Python library",
    )
    block_s: float = Field(
        60.0,
        gt=0,
        le=86_400,
        description="s that one run of `command` should take, at most to the next snapshot",
    )
    timeout_s: float = Field(
        3600.0, gt=0, description="s without a new line in log.lammps after which `command` is taken for hung"
    )

    @field_validator("command")
    @classmethod
    def _is_a_command(cls, value: str | None) -> str | None:
        if value is not None and not shlex.split(value):
            raise ValueError("command: empty: leave it out to use LAMMPS' Python library")
        return value


def integrator_commands(settings: MDSettings, seed: int, leg: Leg | None = None) -> list[str]:
    """Return LAMMPS' `fix` commands, with the same ids every time so that a restart finds their state.

    Parameters
    ----------
    leg
        The part of the schedule that is to be run; by default its first one.
    """
    leg = leg or settings.course().leg(0)
    heat = settings.thermostat_damping_fs / 1000.0
    if settings.ensemble == "nve":
        return ["fix move all nve"]
    if settings.ensemble == "langevin":
        return ["fix move all nve", noise_command(settings, seed, leg)]
    bath = f"temp {leg.first.temperature!r} {leg.last.temperature!r} {heat!r}"
    if settings.ensemble == "nvt":
        return [f"fix move all nvt {bath}"]
    squeeze = f"{leg.first.pressure!r} {leg.last.pressure!r} {settings.barostat_damping_fs / 1000.0!r}"
    if settings.schedule is not None and settings.schedule.strained:
        pressure = " ".join(f"{axis} {squeeze}" for axis in settings.barostat_axes) + " couple none"
    else:
        pressure = f"{settings.pressure_coupling} {squeeze}"
    # The fixed point keeps the origin of the cell where ASE expects it; flips would change the cell vectors' meaning.
    return [f"fix move all npt {bath} {pressure} fixedpoint 0 0 0 flip no"]


def noise_command(settings: MDSettings, seed: int, leg: Leg | None = None) -> str:
    """Return the `fix` of the Langevin thermostat, id `bath`."""
    leg = leg or settings.course().leg(0)
    first, last = leg.first.temperature, leg.last.temperature
    return f"fix bath all langevin {first!r} {last!r} {settings.thermostat_damping_fs / 1000.0!r} {seed}"


def velocity_command(temperature: float, seed: int, *, atoms: int | None) -> str:
    """Return the command that draws velocities; without its drift a single atom has no heat."""
    if temperature <= 0 or atoms == 1:
        return "velocity all set 0.0 0.0 0.0"
    return f"velocity all create {temperature!r} {seed} mom yes dist gaussian loop all"


def density_commands(settings: MDSettings) -> list[str]:
    """Return what ends MD at the step whose density leaves the bounds; LAMMPS' metal density is in g/cm^3."""
    if settings.density_bounds is None:
        return []
    low, high = settings.density_bounds
    return [
        f'variable outside equal "(density < {low!r}) || (density > {high!r})"',
        f"fix bounds all halt {settings.density_every} v_outside > 0.5 error continue message no",
    ]
