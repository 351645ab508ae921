"""composition: what the run is about, as the user says it.

Reads: the section `material` of `autopipe.yaml`. Writes: nothing. Next: `infer` and `policy` say what follows from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mlip_autopipec.structures.seeds.configtypes import CONFIG_TYPES

# Labels of the seeds: what one element needs, and each further one.
_SEEDS: Final = (48, 24)


class MaterialSettings(BaseModel):
    """What the run is about; values that nobody gives are inferred from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    formula: str | None = Field(
        None, description="composition, e.g. Al2Cu; without a structure its prototypes are used"
    )
    structure: Path | None = Field(None, description="file with a crystal, relative to the run directory")
    seed: int = Field(1, ge=0, description="of the seeds' random numbers: the same number gives the same structures")
    seeds: int | None = Field(
        None, ge=8, le=10_000, description="number of seeds; null: 48, and 24 more for each further element"
    )
    shares: dict[str, float] = Field(
        default_factory=dict, description="config_type -> share of the seeds, in place of the policy's; 0: none"
    )

    @model_validator(mode="after")
    def _something_is_given(self) -> Self:
        if (self.formula is None) == (self.structure is None):
            raise ValueError("material: give either formula or structure")
        unknown = sorted(set(self.shares) - set(CONFIG_TYPES))
        if unknown:
            raise ValueError(f"material.shares: {unknown[0]!r} is none of {', '.join(CONFIG_TYPES)}")
        if any(share < 0 for share in self.shares.values()):
            raise ValueError("material.shares: a share is not negative")
        return self

    def total(self, n_elements: int) -> int:
        """Return the number of seeds."""
        return self.seeds or _SEEDS[0] + _SEEDS[1] * (n_elements - 1)
