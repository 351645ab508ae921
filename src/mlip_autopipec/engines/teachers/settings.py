"""Settings of the analytic teachers."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

# Argon: doi:10.1103/PhysRev.136.A405.
_ARGON: Final = {"sigma": 3.4, "epsilon": 0.0104, "cutoff": 8.5}


class TeacherSettings(BaseModel):
    """An analytic potential that stands in for DFT in demonstrations, tests and benchmarks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["teacher"] = "teacher"
    model: Literal["lj", "emt"] = Field(
        "emt", description="lj: Lennard-Jones; emt: effective medium theory of fcc metals"
    )
    sigma: float | None = Field(None, gt=0, description="A, zero of the pair energy; lj only, default 3.4 (argon)")
    epsilon: float | None = Field(
        None, gt=0, description="eV, depth of the pair energy; lj only, default 0.0104 (argon)"
    )
    cutoff: float | None = Field(
        None, gt=0, description="A, where the pair energy has gone to zero; lj only, default 8.5"
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """Expand argon's values, so that a task file says what was computed."""
        if isinstance(data, dict) and data.get("model") == "lj":
            return {**data, **{key: value for key, value in _ARGON.items() if data.get(key) is None}}
        return data

    @model_validator(mode="after")
    def _fields_fit_the_model(self) -> TeacherSettings:
        if self.model == "emt":
            for key in _ARGON:
                if getattr(self, key) is not None:
                    raise ValueError(f"labeller.{key}: belongs to model lj; remove it, or set model: lj")
        elif self.sigma is not None and self.cutoff is not None and self.cutoff <= 1.5 * self.sigma:
            raise ValueError(f"labeller.cutoff: {self.cutoff:g} A cuts into the well; set more than 1.5 sigma")
        return self
