"""What MD is set to at each step: constant values, ramps, cycles, strain. Pure functions of the step number.

Nothing here depends on what happened before, so that a walker that was killed finds the same values again. A run that
was saved at some step and the one that is restored there are the same to rounding; a run that was never saved there
differs while a cell is strained or while an npt run is heated: LAMMPS' set-up then takes the forces of the strained
cell, and a barostat's mass from the temperature of the moment.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Final

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from mlip_autopipec.core.interfaces import FloatArray

# Components in ASE's Voigt order.
STRAINS: Final = ("xx", "yy", "zz", "yz", "xz", "xy")
_AXES: Final = {"xx": "x", "yy": "y", "zz": "z"}
# LAMMPS' names of what may change in a box, and where it stands in the matrix of cell vectors.
_PLACES: Final = {"x": (0, 0), "y": (1, 1), "z": (2, 2), "yz": (2, 1), "xz": (2, 0), "xy": (1, 0)}
_MOST_LEGS: Final = 10_000
_EPS: Final = 1e-12


def _pair(value: Any) -> Any:
    """Read one number as a ramp from it to itself."""
    return (value, value) if isinstance(value, int | float | str) and not isinstance(value, bool) else value


Kelvin = Annotated[float, Field(ge=0, le=50_000)]
Bar = Annotated[float, Field(ge=-1e7, le=1e7)]
# A cell that loses 90 % of an edge, or doubles it twice, is a mistake of the unit (per cent instead of a fraction).
Fraction = Annotated[float, Field(gt=-0.9, le=3.0)]


class Strain(BaseModel):
    """Engineering strain of the start structure's cell, reached at the end of a segment; what is left out stays.

    Shear moves the atoms along the first axis in proportion to the second: xy along x in proportion to y.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    xx: Fraction | None = Field(None, description="change of length along x / length of the start structure")
    yy: Fraction | None = Field(None, description="the same along y")
    zz: Fraction | None = Field(None, description="the same along z")
    yz: Fraction | None = Field(None, description="displacement along y / height along z")
    xz: Fraction | None = Field(None, description="displacement along x / height along z")
    xy: Fraction | None = Field(None, description="displacement along x / height along y")


class Segment(BaseModel):
    """One stretch of a schedule: a number holds a value, `[from, to]` ramps; what is left out stays as it was."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(ge=1, description="MD steps that the segment takes")
    temperature: Annotated[tuple[Kelvin, Kelvin] | None, BeforeValidator(_pair)] = Field(
        None, description="K, or [K at the beginning, K at the end]"
    )
    pressure: Annotated[tuple[Bar, Bar] | None, BeforeValidator(_pair)] = Field(
        None, description="bar, or [bar at the beginning, bar at the end]; npt only"
    )
    strain: Strain | None = Field(None, description="strain that is reached, evenly, at the end of the segment")


class Schedule(BaseModel):
    """Segments one after the other, several times over; after the last one its final values stay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    segments: tuple[Segment, ...] = Field(min_length=1, max_length=1000, description="in their order")
    cycles: int = Field(1, ge=1, le=_MOST_LEGS, description="how often the segments are gone through, e.g. melt-quench")

    @model_validator(mode="after")
    def _ends_somewhere(self) -> Schedule:
        if self.cycles * len(self.segments) > _MOST_LEGS:
            raise ValueError(f"cycles: {self.cycles} times {len(self.segments)} segments: more than {_MOST_LEGS}")
        return self

    @property
    def steps(self) -> int:
        """MD steps of all cycles."""
        return self.cycles * sum(segment.steps for segment in self.segments)

    @property
    def strained(self) -> frozenset[str]:
        """Components of the strain that some segment sets."""
        given = [segment.strain for segment in self.segments if segment.strain is not None]
        return frozenset(name for strain in given for name in STRAINS if getattr(strain, name) is not None)

    @property
    def heated(self) -> bool:
        """True if some segment sets a temperature."""
        return any(segment.temperature is not None for segment in self.segments)

    @property
    def pressed(self) -> bool:
        """True if some segment sets a pressure."""
        return any(segment.pressure is not None for segment in self.segments)


@dataclass(frozen=True)
class SetPoints:
    """What is wanted at one step: temperature, K; pressure, bar; strain (6,) in ASE's Voigt order."""

    temperature: float
    pressure: float
    strain: tuple[float, ...] = (0.0,) * 6

    def deformation(self) -> FloatArray:
        """Return F (3, 3), lower triangular: a row vector x of the start structure is now ``x @ F``."""
        xx, yy, zz, yz, xz, xy = self.strain
        return np.array([[1 + xx, 0, 0], [xy, 1 + yy, 0], [xz, yz, 1 + zz]])


@dataclass(frozen=True)
class Leg:
    """Steps between `begin` and `end` (None: for ever), from `first` to `last` in a straight line."""

    number: int
    begin: int
    end: int | None
    first: SetPoints
    last: SetPoints

    @property
    def window(self) -> str:
        """Arguments of LAMMPS' `run`: its ramps go by the leg, whatever the chunks."""
        return "" if self.end is None else f" start {self.begin} stop {self.end}"

    @property
    def strains(self) -> bool:
        """True if the cell changes its shape by command."""
        return self.first.strain != self.last.strain

    def at(self, step: int) -> SetPoints:
        """Return the set-points of one step."""
        if self.end is None:
            return self.last
        f = (step - self.begin) / (self.end - self.begin)
        strain = tuple(_between(a, b, f) for a, b in zip(self.first.strain, self.last.strain, strict=True))
        return SetPoints(
            _between(self.first.temperature, self.last.temperature, f),
            _between(self.first.pressure, self.last.pressure, f),
            strain,
        )


class Course:
    """All legs of one walker.

    Parameters
    ----------
    start
        Set-points before the first segment.
    """

    def __init__(self, schedule: Schedule | None, start: SetPoints) -> None:
        self._schedule = schedule
        self._start = start

    @cached_property
    def legs(self) -> list[Leg]:
        """Every leg; the last one has no end."""
        legs: list[Leg] = []
        step, reached = 0, self._start
        cycles = self._schedule.cycles if self._schedule else 0
        for segment in [s for _ in range(cycles) for s in (self._schedule.segments if self._schedule else ())]:
            first, last = _ends(segment, reached)
            legs.append(Leg(len(legs), step, step + segment.steps, first, last))
            step, reached = step + segment.steps, last
        return [*legs, Leg(len(legs), step, None, reached, reached)]

    def leg(self, step: int) -> Leg:
        """Return the leg that goes on from `step`: at a border the next one."""
        return self.legs[int(np.searchsorted([leg.begin for leg in self.legs], step, side="right")) - 1]

    def at(self, step: int) -> SetPoints:
        """Return the set-points of one step."""
        return self.leg(step).at(step)


def _ends(segment: Segment, reached: SetPoints) -> tuple[SetPoints, SetPoints]:
    """Return the set-points at both ends of a segment that begins where the last one left them."""
    first = last = reached
    if segment.temperature is not None:
        first, last = (replace(p, temperature=t) for p, t in zip((first, last), segment.temperature, strict=True))
    if segment.pressure is not None:
        first, last = (replace(p, pressure=b) for p, b in zip((first, last), segment.pressure, strict=True))
    if segment.strain is not None:
        wanted = [getattr(segment.strain, name) for name in STRAINS]
        strain = tuple(old if new is None else new for old, new in zip(reached.strain, wanted, strict=True))
        last = replace(last, strain=strain)
    return first, last


def _between(a: float, b: float, fraction: float) -> float:
    return a if a == b else a + fraction * (b - a)


def deform_command(leg: Leg, cell: FloatArray, corner: tuple[float, ...], dimension: int) -> str | None:
    """Return the `fix deform` of a leg; None if the cell keeps its shape.

    Parameters
    ----------
    cell
        (3, 3) A, the start structure's, in LAMMPS' orientation (lower triangular).
    corner
        (3,) A, where LAMMPS' box begins.
    """
    if not leg.strains:
        return None
    # Targets are absolute, so that a walker that resumes amid the leg needs to know no beginning but LAMMPS' own.
    old, new = (cell @ points.deformation() for points in (leg.first, leg.last))
    words = []
    for name, (row, column) in {
        "x": (0, 0),
        "y": (1, 1),
        "z": (2, 2),
        "yz": (2, 1),
        "xz": (2, 0),
        "xy": (1, 0),
    }.items():
        if (dimension == 2 and "z" in name) or abs(new[row, column] - old[row, column]) < _EPS:
            continue
        value = float(new[row, column])
        words.append(
            f"{name} final {corner[row]!r} {corner[row] + value!r}" if row == column else f"{name} final {value!r}"
        )
    # The id tells legs apart: LAMMPS keeps the box at which a leg began in its restarts, by id.
    return f"fix strain{leg.number} all deform 1 {' '.join(words)} remap x units box flip no" if words else None


def free_axes(strained: frozenset[str]) -> list[str]:
    """Return the axes that are left to a barostat."""
    return [axis for name, axis in _AXES.items() if name not in strained]
