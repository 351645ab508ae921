"""How wrong each version is on labelled structures. Read-only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.core.neighbours import neighbourhood


def errors(evaluator: Evaluator, frames: Sequence[Atoms], isolated: Mapping[str, float]) -> dict[str, Any]:
    """Return RMSE of forces (eV/A) and energy (meV/atom) against the labels that `frames` carry.

    Parameters
    ----------
    isolated
        Isolated-atom energies in eV that the evaluator's energy leaves out.
    """
    squares, energy = [], []
    for atoms in frames:
        result = evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements))
        # A constraint of the file zeroes forces on reading them, but not in the label.
        squares.append((result.forces - atoms.get_forces(apply_constraint=False)).ravel() ** 2)
        offset = sum(isolated[symbol] for symbol in atoms.get_chemical_symbols())
        energy.append((result.energy + offset - atoms.get_potential_energy()) / len(atoms))
    return {
        "structures": len(frames),
        "force_rmse": float(np.sqrt(np.mean(np.concatenate(squares)))),
        "energy_rmse_mev": float(1000 * np.sqrt(np.mean(np.square(energy)))),
    }


def by_group(
    evaluator: Evaluator,
    frames: Sequence[Atoms],
    isolated: Mapping[str, float],
    group: Callable[[Atoms], str | None] = lambda atoms: atoms.info.get("config_type"),
) -> dict[str, dict[str, Any]]:
    """Return `errors` for all frames and for each group of them; frames of no group count only among all."""
    groups: dict[str, list[Atoms]] = {"all": list(frames)}
    for atoms in frames:
        name = group(atoms)
        if name not in (None, "all"):
            groups.setdefault(str(name), []).append(atoms)
    return {name: errors(evaluator, members, isolated) for name, members in groups.items()}
