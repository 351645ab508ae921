"""Settings of a linear ACE basis."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# python-ace's stored table of invariants ends here, by rank; larger l would silently not be generated.
_LARGEST_L = (0, 10, 6, 4, 3, 2)


class BasisSettings(BaseModel):
    """Which functions the potential is made of. The defaults give 79 functions for one element."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cutoff: float = Field(6.0, gt=1, le=15, description="A; neighbours farther away are not seen; 2 shells of a metal")
    radial_basis: Literal["ChebExpCos", "ChebPow", "SBessel"] = Field(
        "ChebExpCos", description="family of radial functions, python-ace's names; ChebExpCos resolves short distances"
    )
    radial_decay: float = Field(
        5.25,
        gt=0,
        le=20,
        description="dimensionless lambda of ChebExpCos and ChebPow: larger resolves short distances better",
    )
    # Pair functions are cheap and carry most of the energy; angular ones get dear fast.
    nradmax_by_orders: tuple[int, ...] = Field(
        (10, 4, 2, 1), description="number of radial functions by rank (pairs, triples, …)"
    )
    lmax_by_orders: tuple[int, ...] = Field((0, 3, 2, 1), description="largest angular momentum by rank; 0 for pairs")

    @field_validator("nradmax_by_orders")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not 1 <= len(value) <= len(_LARGEST_L) or min(value) < 1 or max(value) > 30:
            raise ValueError(f"needs 1 to {len(_LARGEST_L)} numbers between 1 and 30, got {list(value)}")
        return value

    @model_validator(mode="after")
    def _matching(self) -> Self:
        if len(self.nradmax_by_orders) != len(self.lmax_by_orders):
            raise ValueError("nradmax_by_orders and lmax_by_orders need one number per rank each")
        for rank, (lmax, largest) in enumerate(zip(self.lmax_by_orders, _LARGEST_L, strict=False), start=1):
            if not 0 <= lmax <= largest:
                raise ValueError(f"lmax_by_orders: {lmax} for rank {rank}, python-ace knows 0 to {largest}")
        return self
