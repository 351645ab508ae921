"""How two potentials differ on structures, added up frame by frame. Read-only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.core.conventions import stress_from_virial
from mlip_autopipec.core.neighbours import neighbourhood

UNITS = {"energy": "eV/atom", "forces": "eV/A", "stress": "eV/A^3"}
_SHOWN_POINTS = 20_000


@dataclass
class Quantity:
    """Deviations of one quantity; keeps a random sample of points for a plot.

    Attributes
    ----------
    count, squares, largest : number of components, sum of squares and largest absolute value of their deviations
    """

    count: int = 0
    squares: float = 0.0
    largest: float = 0.0
    _points: FloatArray = field(default_factory=lambda: np.zeros((0, 3)))
    _random: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def add(self, first: FloatArray, second: FloatArray) -> None:
        """Add values of both potentials, of one shape."""
        deviation = np.ravel(second - first)
        self.count += deviation.size
        self.squares += float(deviation @ deviation)
        self.largest = max(self.largest, float(np.abs(deviation).max(initial=0.0)))
        # The points with the smallest random keys are a fair sample of all, however many come.
        new = np.column_stack([self._random.random(deviation.size), np.ravel(first), np.ravel(second)])
        points = np.concatenate([self._points, new])
        self._points = points[np.argsort(points[:, 0])[:_SHOWN_POINTS]]

    @property
    def rmse(self) -> float:
        return float(np.sqrt(self.squares / self.count))

    @property
    def points(self) -> FloatArray:
        """(n, 2) values of the first and the second potential."""
        return self._points[:, 1:]


class Parity:
    """Compares two evaluators on frames, without their isolated-atom energies, which only `.yace` files have."""

    def __init__(self, first: AceEvaluator, second: AceEvaluator) -> None:
        self._pair = (first, second)
        self.quantities: dict[str, Quantity] = {}
        self.structures = 0
        self.atoms = 0

    def add(self, atoms: Atoms) -> None:
        """Add one frame.

        Raises
        ------
        ModelError, DataError, Crashed
            A potential cannot evaluate it.
        """
        (e0, f0, s0), (e1, f1, s1) = (_evaluate(evaluator, atoms) for evaluator in self._pair)
        self._quantity("energy").add(np.array([e0]), np.array([e1]))
        self._quantity("forces").add(f0, f1)
        if s0 is not None and s1 is not None:
            self._quantity("stress").add(s0, s1)
        self.structures += 1
        self.atoms += len(atoms)

    def _quantity(self, name: str) -> Quantity:
        return self.quantities.setdefault(name, Quantity())

    def table(self) -> dict[str, Any]:
        """Return RMSE and largest deviation per quantity, ready for JSON."""
        return {
            "structures": self.structures,
            "atoms": self.atoms,
            "quantities": {
                name: {"unit": UNITS[name], "values": q.count, "rmse": q.rmse, "max": q.largest}
                for name, q in self.quantities.items()
            },
        }


def _evaluate(evaluator: AceEvaluator, atoms: Atoms) -> tuple[float, FloatArray, FloatArray | None]:
    frame = neighbourhood(atoms, evaluator.cutoff, evaluator.elements)
    found = evaluator.evaluate(frame)
    isolated = float(evaluator.potential.isolated_energies[frame.species[: len(atoms)]].sum())
    stress = stress_from_virial(found.virial, atoms.get_volume()) if atoms.cell.rank == 3 else None
    return (found.energy - isolated) / len(atoms), found.forces, stress


def plot(parity: Parity, names: tuple[str, str], target: Path) -> None:
    """Write a figure: the values of the second potential over those of the first, one panel per quantity."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.0 * len(parity.quantities), 3.8), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(parity.quantities)))
    for panel, (label, quantity) in zip(panels, _panels(parity), strict=True):
        first, second = quantity.points.T
        ends = [min(first.min(), second.min()), max(first.max(), second.max())]
        panel.plot(ends, ends, color="0.6", linewidth=1)
        panel.plot(first, second, ".", markersize=3)
        panel.set_title(f"RMSE {quantity.rmse:.3g}, max {quantity.largest:.3g}", fontsize="medium")
        panel.set_xlabel(f"{names[0]}: {label}")
        panel.set_ylabel(f"{names[1]}: {label}")
    figure.savefig(target, dpi=150)


def _panels(parity: Parity) -> Iterator[tuple[str, Quantity]]:
    for name, quantity in parity.quantities.items():
        yield f"{name} ({UNITS[name]})", quantity
