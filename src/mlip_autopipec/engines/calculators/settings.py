"""Settings of an ASE calculator that is named by its dotted path."""

from __future__ import annotations

import re
from typing import Any, Literal

from ase.data import atomic_numbers
from pydantic import BaseModel, ConfigDict, Field, field_validator

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


class AseSettings(BaseModel):
    """Of an ASE calculator: everything that decides a label, part of every task, the same for all labels of a run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: Literal["ase"] = "ase"
    calculator: str = Field(
        description="dotted path of a class, or of a function that makes a calculator: ase.calculators.emt.EMT"
    )
    kwargs: dict[str, Any] = Field(
        default_factory=dict, description="its arguments; in ASE's units: eV, A; k-points of all cells go in here"
    )
    # ASE calls two things "energy": of DFT programs it is often the value extrapolated to zero smearing.
    energy: Literal["free_energy", "energy"] = Field(
        "free_energy",
        description="which result the forces are derivatives of; `energy` only for a calculator without smearing",
    )
    elements: list[str] = Field(
        default_factory=list, description="elements that it can label; default: seen only when it labels"
    )
    isolated_box: float = Field(12.0, ge=6, le=100, description="A, edge of the periodic box of an isolated atom")

    @field_validator("calculator")
    @classmethod
    def _dotted(cls, value: str) -> str:
        if not _DOTTED.fullmatch(value):
            raise ValueError("not a dotted path; write module and name, e.g. ase.calculators.emt.EMT")
        return value

    @field_validator("elements")
    @classmethod
    def _elements_exist(cls, value: list[str]) -> list[str]:
        for element in value:
            if element == "X" or element not in atomic_numbers:
                raise ValueError(f"{element!r} is no element symbol; write e.g. Al")
        return value
