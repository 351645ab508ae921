"""What a computed property is, whoever computed it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Value:
    """One number with its unit, as it stands in a table."""

    number: float
    unit: str


@dataclass(frozen=True)
class Property:
    """One property of one material.

    Attributes
    ----------
    name : e.g. `elastic`
    values : quantity -> number and unit
    curves : what a figure shows; JSON-ready
    """

    name: str
    values: Mapping[str, Value]
    curves: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        values = {name: {"value": value.number, "unit": value.unit} for name, value in self.values.items()}
        return {"values": values, "curves": dict(self.curves)}
