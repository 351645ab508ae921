"""Settings of the program `pacemaker`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class PacemakerSettings(BaseModel):
    """How `pacemaker` refines a linear potential; used with `trainer: pacemaker` or `final: pacemaker`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: str = Field(
        "pacemaker", description="how it is called; may lie in another environment, e.g. one with tensorpotential"
    )
    evaluator: Literal["pyace", "tensorpot"] = Field(
        "pyace", description="its backend: pyace needs nothing more but is slow; tensorpot needs tensorpotential"
    )
    iterations: int = Field(50, ge=1, le=100_000, description="of its optimizer, BFGS, at most")
    trainable: Literal["functions", "all"] = Field(
        "functions", description="functions: the coefficients of all functions; all: of the radial functions, too"
    )
    # The square root is the many-body part of metals, doi:10.1080/01418618408244210; pacemaker's own default as well.
    embedding_exponents: tuple[float, ...] = Field(
        (1.0, 0.5),
        min_length=1,
        max_length=4,
        description="dimensionless; one density for each, the first is the linear potential that the fit begins with",
    )
    kappa: float | None = Field(
        None, ge=0, le=1, description="share of the forces in the loss; null: as energy_weight and force_weight say"
    )
    l2: float = Field(1e-12, ge=0, le=1, description="dimensionless strength of its regularisation")
    limit_s: float = Field(36_000.0, gt=0, description="s; a fit that takes longer is stopped and fails")
