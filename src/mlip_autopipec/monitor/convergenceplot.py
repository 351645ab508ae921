"""A figure of how a label depends on cutoffs and k-points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlip_autopipec.engines.espresso.convergence import Point, Tolerance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Where a difference of exactly nothing is drawn, meV.
_LEAST_MEV = 1e-3


def plot(cutoffs: Sequence[Point], kpoints: Sequence[Point], tolerance: Tolerance, target: Path) -> None:
    """Write a figure: distances from the finest point over cutoff and k-point spacing, with the tolerances."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    _draw(left, cutoffs, lambda point: point.ecutwfc_ry, tolerance)
    left.set_xlabel("ecutwfc (Ry)")
    left.set_ylabel("distance from the finest point")
    _draw(right, kpoints, lambda point: point.kspacing, tolerance)
    right.set_xlabel("k-point spacing (1/A)")
    right.invert_xaxis()
    right.legend(fontsize="small")
    figure.savefig(target, dpi=150)


def _draw(panel: Axes, points: Sequence[Point], where: Callable[[Point], float], tolerance: Tolerance) -> None:
    """Draw one series without its finest point, whose distances are nothing by definition."""
    kept = [point for point in points[:-1] if point.energy_mev is not None and point.force_mev is not None]
    places = [where(point) for point in kept]
    for values, limit, label, colour in (
        ([abs(point.energy_mev or 0.0) for point in kept], tolerance.energy_mev, "energy (meV/atom)", "C0"),
        ([point.force_mev or 0.0 for point in kept], tolerance.force_mev, "forces (meV/A)", "C1"),
    ):
        panel.plot(places, [max(value, _LEAST_MEV) for value in values], "o-", color=colour, label=label)
        panel.axhline(limit, color=colour, linestyle=":", linewidth=1)
    panel.set_yscale("log")
