"""What the user chooses about molecular dynamics."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

LARGEST_SEED = 899_999_999


class MDSettings(BaseModel):
    """Ensemble, time step and thermostat of one MD run."""

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
    seed: int = Field(1, ge=1, le=LARGEST_SEED, description="of the first velocities and of the Langevin noise")
    # Measured with cutoffs of 5.5 and 7 A: at 1.0 the neighbours beyond the cutoff cost more than rebuilding does.
    skin: float = Field(0.8, gt=0, description="A beyond the cutoff; larger lists are rebuilt less often")

    @model_validator(mode="after")
    def _thermostats_need_heat(self) -> MDSettings:
        if self.ensemble != "nve" and self.temperature_k <= 0:
            raise ValueError(f"temperature_k: {self.temperature_k} K is too cold for a thermostat ({self.ensemble})")
        return self


def integrator_commands(settings: MDSettings, seed: int) -> list[str]:
    """Return LAMMPS' `fix` commands, with the same ids every time so that a restart finds their state."""
    t = settings.temperature_k
    heat = settings.thermostat_damping_fs / 1000.0
    if settings.ensemble == "nve":
        return ["fix move all nve"]
    if settings.ensemble == "langevin":
        return ["fix move all nve", noise_command(settings, seed)]
    if settings.ensemble == "nvt":
        return [f"fix move all nvt temp {t!r} {t!r} {heat!r}"]
    p = settings.pressure_bar
    squeeze = settings.barostat_damping_fs / 1000.0
    # The fixed point keeps the origin of the cell where ASE expects it; flips would change the cell vectors' meaning.
    return [
        f"fix move all npt temp {t!r} {t!r} {heat!r} {settings.pressure_coupling} {p!r} {p!r} {squeeze!r} "
        "fixedpoint 0 0 0 flip no"
    ]


def noise_command(settings: MDSettings, seed: int) -> str:
    """Return the `fix` of the Langevin thermostat, id `bath`."""
    t = settings.temperature_k
    return f"fix bath all langevin {t!r} {t!r} {settings.thermostat_damping_fs / 1000.0!r} {seed}"
