"""Fidelity: how well the core of a carved cell repeats what its parent does, as a potential sees both."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.core.interfaces import Evaluation, Evaluator
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.structures.embedding import Carved
from mlip_autopipec.structures.window import FloatArray

# Beyond this a grade only says "closer than anything seen"; two such grades are the same.
_BOUNDLESS = 1e8


@dataclass(frozen=True)
class Fidelity:
    """What differs between cell and parent.

    Attributes
    ----------
    force_error : root mean square over the core's atoms of the length of the force difference, eV/A
    largest_force_error : its largest length, eV/A
    gamma_ratio : gamma of the centre, in the cell over in the parent; None without gamma
    """

    force_error: float
    largest_force_error: float
    gamma_ratio: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return asdict(self)


def evaluate(evaluator: Evaluator, atoms: Atoms) -> Evaluation:
    """Return forces, and gamma if it has one, of any structure; raises as `Evaluator.evaluate`."""
    frame = neighbourhood(atoms, evaluator.cutoff, evaluator.elements)
    return evaluator.evaluate(frame, gamma=evaluator.has_gamma)


def measure(carved: Carved, cell: Evaluation, parent: Evaluation) -> Fidelity:
    """Compare the cell's evaluation with its parent's."""
    error, largest = force_errors(carved, cell.forces, parent.forces)
    ratio = None
    if cell.gamma is not None and parent.gamma is not None:
        ratio = gamma_ratio(float(cell.gamma[carved.center]), float(parent.gamma[carved.parent_indices[carved.center]]))
    return Fidelity(error, largest, ratio)


def force_errors(carved: Carved, cell: FloatArray, parent: FloatArray) -> tuple[float, float]:
    """Return root mean square and largest length of the difference of the core's forces, eV/A; infinite if not finite.

    Parameters
    ----------
    cell, parent : (n, 3), (N, 3) eV/A
    """
    difference = cell[carved.core] - parent[carved.parent_indices[carved.core]]
    squares = (difference**2).sum(axis=1)
    if not np.isfinite(squares).all():
        return float("inf"), float("inf")
    return float(np.sqrt(squares.mean())), float(np.sqrt(squares.max()))


def gamma_ratio(cell: float, parent: float) -> float:
    """Return cell / parent; 1 if both are beyond all measure or both zero."""
    if (not cell < _BOUNDLESS and not parent < _BOUNDLESS) or cell == parent:
        return 1.0
    return float(cell / parent) if np.isfinite(cell) and parent > 0.0 and np.isfinite(parent) else float("inf")
