"""Settling: a cell that was cut and joined again goes down until its energy is that of the frame it was cut from.

At a new seam atoms sit where a hot frame's never do, 0.2 to 0.4 eV/atom above it. A potential that knows the phase
moves them downhill; the descent ends as soon as the energy per atom is the frame's own, so the cell keeps the heat of
the frame and does not freeze. Moves are fire's (Bitzek et al. 2006, doi:10.1103/PhysRevLett.97.170201).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.interfaces import Evaluation, Evaluator
from mlip_autopipec.core.neighbours import neighbourhood

_STEPS: Final = 200
# A that an atom may move in one step.
_LARGEST_STEP_A: Final = 0.08
_MIXING, _LESS, _FASTER, _SLOWER, _PATIENCE = 0.1, 0.99, 1.1, 0.5, 5
# In units in which a force of 1 eV/A moves an atom by dt^2 A.
_FIRST_DT, _LARGEST_DT = 0.05, 0.25


def settled(atoms: Atoms, evaluator: Evaluator, energy_per_atom: float) -> tuple[Atoms, Evaluation]:
    """Return a copy whose energy per atom is at most `energy_per_atom`, or the lowest that was reached.

    Parameters
    ----------
    evaluator
        The current potential.
    energy_per_atom
        eV, by the same potential.

    Returns
    -------
    atoms : the copy
    evaluation : what the potential says about it, with gamma if it has one
    """
    place = atoms.copy()
    said = _evaluate(evaluator, place)
    best, best_said = place.copy(), said
    highest = np.inf if said.gamma is None else float(said.gamma.max())
    velocity = np.zeros((len(atoms), 3))
    dt, mixing, downhill = _FIRST_DT, _MIXING, 0
    for _ in range(_STEPS):
        if best_said.energy <= energy_per_atom * len(atoms) or not np.isfinite(said.forces).all():
            break
        power = float((said.forces * velocity).sum())
        if power > 0.0:
            along = np.linalg.norm(velocity) / max(float(np.linalg.norm(said.forces)), 1e-12)
            velocity = (1.0 - mixing) * velocity + mixing * along * said.forces
            downhill += 1
            if downhill > _PATIENCE:
                dt, mixing = min(_FASTER * dt, _LARGEST_DT), _LESS * mixing
        else:
            velocity[:] = 0.0
            dt, mixing, downhill = _SLOWER * dt, _MIXING, 0
        velocity += dt * said.forces
        step = dt * velocity
        longest = float(np.linalg.norm(step, axis=1).max(initial=0.0))
        place.positions += step * min(1.0, _LARGEST_STEP_A / max(longest, 1e-12))
        said = _evaluate(evaluator, place)
        # Where the potential knows less than of the seam, it may only fall into a hole of its own.
        if said.gamma is not None and not float(said.gamma.max()) <= highest:
            break
        if said.energy < best_said.energy:
            best, best_said = place.copy(), said
    best.wrap()
    return best, best_said


def _evaluate(evaluator: Evaluator, atoms: Atoms) -> Evaluation:
    return evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements), gamma=evaluator.has_gamma)
