"""One structure with what a potential says about it, as extended xyz."""

from __future__ import annotations

from typing import Any, TextIO

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.core.conventions import stress_from_virial
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.core.neighbours import neighbourhood


def write_evaluated(evaluator: Evaluator, atoms: Atoms, handle: TextIO) -> dict[str, Any]:
    """Append `atoms` with energy (eV), energies, forces (eV/A), stress (eV/A^3) and gamma; return a summary for JSON.

    What the structure carried besides results (`info`, other arrays) stays.

    Raises
    ------
    ModelError, DataError, Crashed
        The potential cannot evaluate it.
    """
    frame = neighbourhood(atoms, evaluator.cutoff, evaluator.elements)
    found = evaluator.evaluate(frame, gamma=evaluator.has_gamma)
    results: dict[str, Any] = {"energy": found.energy, "energies": found.energies, "forces": found.forces}
    if atoms.cell.rank == 3:
        results["stress"] = stress_from_virial(found.virial, atoms.get_volume())
    copy = atoms.copy()
    copy.arrays.pop("gamma", None)
    if found.gamma is not None:
        copy.set_array("gamma", found.gamma)
    copy.calc = SinglePointCalculator(copy, **results)
    ase.io.write(handle, copy, format="extxyz")
    return {
        "atoms": len(atoms),
        "energy": found.energy,
        "energy_per_atom": found.energy / len(atoms) if len(atoms) else None,
        "force_max": float(np.linalg.norm(found.forces, axis=1).max(initial=0.0)),
        "gamma_max": float(found.gamma.max(initial=0.0)) if found.gamma is not None else None,
    }
