"""How energy, forces and stress of one structure depend on cutoffs and k-points, and which of them are enough.

Each quantity is compared with the finest point of its series. Cutoffs and k-points hardly know of each other, so the
cutoffs are compared at coarse k-points and the k-points at the settings' cutoffs: two short series, not a table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from pydantic import ValidationError

from mlip_autopipec.core.conventions import EV_PER_A3_IN_GPA
from mlip_autopipec.core.errors import AutopipeError, ConfigError, DataError
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.engines.espresso.choices import Choices, choose
from mlip_autopipec.engines.espresso.inputs import prepare
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings

# The last of each is what the others are compared with.
_CUTOFF_FACTORS: Final = (0.5, 0.65, 0.8, 1.0, 1.25, 1.6)
_SPACING_FACTORS: Final = (3.0, 2.0, 1.5, 1.0, 0.7)
_COARSE: Final = 2.0
# Below this (eV/A) all forces vanish by symmetry and say nothing; then the atoms are moved by so much (A).
_NO_FORCE: Final = 0.005
_RATTLE_A: Final = 0.05


@dataclass(frozen=True)
class Point:
    """One calculation of a series; `energy_mev`, `force_mev`, `stress_gpa` are its distances from the finest point.

    Attributes
    ----------
    kpoints : grid
    energy_mev : meV/atom
    force_mev : largest component, meV/A
    stress_gpa : largest component, GPa; None without a stress
    error : why there is no label; the distances are None then
    """

    ecutwfc_ry: float
    ecutrho_ry: float
    kspacing: float
    kpoints: tuple[int, int, int]
    seconds: float = 0.0
    energy_mev: float | None = None
    force_mev: float | None = None
    stress_gpa: float | None = None
    error: str = ""
    label: Label | None = field(default=None, repr=False)

    def record(self) -> dict[str, Any]:
        """Return what is printed."""
        return {key: value for key, value in vars(self).items() if key != "label"}


@dataclass(frozen=True)
class Tolerance:
    """What is near enough to the finest point."""

    energy_mev: float = 2.0  # per atom
    force_mev: float = 10.0  # per A

    def allows(self, point: Point) -> bool:
        """True if the point's energy and forces are near enough."""
        if point.energy_mev is None or point.force_mev is None:
            return False
        return abs(point.energy_mev) <= self.energy_mev and point.force_mev <= self.force_mev


def recommend(points: Sequence[Point], tolerance: Tolerance) -> Point | None:
    """Return the cheapest point from which on all are near enough; None if only the finest is near to itself.

    Parameters
    ----------
    points
        A series from coarse to fine; the finest is what the others were compared with.
    """
    found = None
    for point in reversed(points[:-1]):
        if not tolerance.allows(point):
            break
        found = point
    return found


def compared(points: Sequence[Point]) -> list[Point]:
    """Return the points with their distances from the last one.

    Raises
    ------
    DataError
        The last point has no label.
    """
    finest = points[-1].label
    if finest is None:
        raise DataError(
            f"convergence: the finest calculation failed: {points[-1].error}", "choose a cheaper finest one"
        )
    return [point if point.label is None else _distances(point, point.label, finest) for point in points]


def _distances(point: Point, label: Label, finest: Label) -> Point:
    stress = None
    if label.stress is not None and finest.stress is not None:
        stress = float(np.abs(label.stress - finest.stress).max()) * EV_PER_A3_IN_GPA
    return replace(
        point,
        energy_mev=1000.0 * (label.energy - finest.energy) / len(label.forces),
        force_mev=1000.0 * float(np.abs(label.forces - finest.forces).max()),
        stress_gpa=stress,
    )


class Scan:
    """Two series of labels of one structure.

    Parameters
    ----------
    atoms
        Any structure; one whose forces vanish by symmetry is rattled by 0.05 A (`rattled_a`).
    settings, node, tether
        As for `EspressoLabeller`.
    cutoffs_ry
        Wave-function cutoffs, Ry; default: around the settings'. The density's grow in proportion.
    spacings
        k-point spacings, 1/A; default: around the settings'.
    note
        Called with each finished point.
    """

    def __init__(
        self,
        atoms: Atoms,
        settings: EspressoSettings,
        node: EspressoNode,
        tether: Sequence[str] = (),
        *,
        cutoffs_ry: Sequence[float] = (),
        spacings: Sequence[float] = (),
        note: Callable[[Point], None] = lambda point: None,
    ) -> None:
        self._atoms = atoms
        self._settings = settings
        self._node = node
        self._tether = list(tether)
        self._note = note
        self.choices: Choices = choose(settings, node.pseudo_dir)
        self._ratio = self.choices.ecutrho_ry / self.choices.ecutwfc_ry
        chosen = self.choices.ecutwfc_ry
        self._cutoffs = sorted(cutoffs_ry) or sorted({float(round(f * chosen)) for f in _CUTOFF_FACTORS})
        spacings = spacings or [f * settings.kspacing for f in _SPACING_FACTORS]
        self._spacings = list(self._of_different_grids(sorted(spacings, reverse=True)))
        self.rattled_a = 0.0
        for cutoff in self._cutoffs:  # what is out of range is said before anything runs
            self._with(ecutwfc_ry=cutoff, ecutrho_ry=self._density_cutoff(cutoff))

    def _density_cutoff(self, cutoff: float) -> float:
        return max(4.0 * cutoff, self._ratio * cutoff)  # the settings refuse less, be it by rounding

    def _of_different_grids(self, spacings: Sequence[float]) -> Iterator[float]:
        """Yield the spacings without those whose grid the one before had."""
        last = None
        for spacing in spacings:
            grid = self._grid(spacing)
            if grid != last:
                yield spacing
            last = grid

    def _grid(self, spacing: float) -> tuple[int, int, int]:
        return prepare(self._atoms, self._with(kspacing=spacing)).kpoints or (1, 1, 1)

    def _with(self, **changes: Any) -> EspressoSettings:
        try:
            return EspressoSettings.model_validate({**self._settings.model_dump(), **changes})
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(
                f"labeller.{first['loc'][0]}: {first['input']:g}: {first['msg']}", "take another range"
            ) from error

    def cutoffs(self) -> list[Point]:
        """Label at each cutoff, with coarse k-points; from coarse to fine, compared with the last."""
        spacing = max(_COARSE * self._settings.kspacing, min(self._spacings))
        return self._series([(cutoff, spacing) for cutoff in self._cutoffs])

    def kpoints(self) -> list[Point]:
        """Label with each k-point spacing, at the settings' cutoffs; from coarse to fine, compared with the last."""
        return self._series([(self.choices.ecutwfc_ry, spacing) for spacing in self._spacings])

    def _series(self, values: Sequence[tuple[float, float]]) -> list[Point]:
        points: list[Point] = []
        for cutoff, spacing in values:
            point = self._point(cutoff, spacing)
            if not points and not self.rattled_a and _vanish(point.label):
                self._rattle()
                point = self._point(cutoff, spacing)
            points.append(point)
            self._note(point)
        return compared(points)

    def _rattle(self) -> None:
        self.rattled_a = _RATTLE_A
        self._atoms = self._atoms.copy()
        self._atoms.rattle(_RATTLE_A, seed=1)

    def _point(self, cutoff: float, spacing: float) -> Point:
        density = self._density_cutoff(cutoff)
        point = Point(cutoff, density, spacing, self._grid(spacing))
        settings = self._with(ecutwfc_ry=cutoff, ecutrho_ry=density, kspacing=spacing)
        with tempfile.TemporaryDirectory(prefix="autopipe-convergence-") as folder:
            try:
                label = EspressoLabeller(settings, self._node, self._tether).label(self._atoms, Path(folder))
            except AutopipeError as error:
                return replace(point, error=str(error))
        return replace(point, label=label, seconds=float(label.info["seconds"]))


def _vanish(label: Label | None) -> bool:
    return label is not None and float(np.abs(label.forces).max()) < _NO_FORCE
