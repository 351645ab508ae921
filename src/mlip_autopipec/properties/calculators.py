"""Evaluators and labellers as calculators of ASE, which all properties are computed by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from mlip_autopipec.core.conventions import stress_from_virial
from mlip_autopipec.core.interfaces import Evaluator, Labeller
from mlip_autopipec.core.neighbours import neighbourhood


class EvaluatorCalculator(Calculator):
    """Energy, forces, stress, and gamma if the evaluator has it (``results["gamma"]``, (N,)).

    Parameters
    ----------
    evaluator
        Of a potential, as walkers have it.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012  as ASE declares it

    def __init__(self, evaluator: Evaluator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.evaluator = evaluator

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        """Compute all of `results` (eV, A)."""
        structure = _noted(self, atoms, properties, system_changes)
        evaluator = self.evaluator
        frame = neighbourhood(structure, evaluator.cutoff, evaluator.elements)
        found = evaluator.evaluate(frame, gamma=evaluator.has_gamma)
        self.results = {"energy": found.energy, "free_energy": found.energy, "forces": found.forces}
        if structure.cell.rank == 3:
            self.results["stress"] = stress_from_virial(found.virial, structure.get_volume())
        if found.gamma is not None:
            self.results["gamma"] = found.gamma


class LabellerCalculator(Calculator):
    """Energy, forces and stress of a labeller; each structure has a folder of its own.

    Parameters
    ----------
    folder
        Existing; `0001`, `0002`, … are made in it.
    """

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012  as ASE declares it

    def __init__(self, labeller: Labeller, folder: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.labeller = labeller
        self.folder = folder
        self._count = 0

    def calculate(
        self, atoms: Atoms | None = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        """Label the structure (eV, A)."""
        structure = _noted(self, atoms, properties, system_changes)
        self._count += 1
        folder = self.folder / f"{self._count:04d}"
        folder.mkdir()
        found = self.labeller.label(structure, folder)
        self.results = {"energy": found.energy, "free_energy": found.energy, "forces": found.forces}
        if found.stress is not None:
            self.results["stress"] = found.stress
        elif "stress" in properties:
            raise PropertyNotImplementedError(f"{self.labeller.name} computes no stress")


def _noted(calculator: Calculator, atoms: Atoms | None, properties: Any, changes: Any) -> Atoms:
    """Let ASE note what is computed, and return it."""
    Calculator.calculate(calculator, atoms, properties, changes)
    structure: Atoms | None = calculator.atoms
    if structure is None:
        raise ValueError("no atoms to calculate")
    return structure
