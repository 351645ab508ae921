"""ACE as an ASE calculator."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.loading import as_active_set, as_potential
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.terms import Potential
from mlip_autopipec.core.conventions import stress_from_virial
from mlip_autopipec.core.interfaces import Neighbourhood
from mlip_autopipec.core.neighbours import neighbourhood


class ACECalculator(Calculator):
    """Energies, forces, stress, extrapolation grade and projections of an ACE potential.

    Parameters
    ----------
    potential
        A `.yaml` or `.yace` file, or what `load_potential` returned.
    active_set
        An `.asi` file, or what `read_asi` returned; needed for ``gamma``.
    threads
        Default: OMP_NUM_THREADS, or all CPUs.
    path
        "lanes" (vectorised) or "reference" (plain loops).
    neighbours
        ``neighbours(atoms, cutoff, elements)`` finds neighbours; default `vesin`.

    Notes
    -----
    Properties: ``energy``, ``free_energy`` (eV), ``energies`` (N,), ``forces`` (N, 3) eV/A, ``stress`` (6,) eV/A^3
    (cells with a volume), ``gamma`` (N,) (with an active set), ``projections`` (N, n_max) (`.yaml` files), the last
    two by ``get_property`` or in ``results``.

    Raises
    ------
    ModelError
        A file is unusable, or the active set belongs to another potential.
    """

    implemented_properties = [  # noqa: RUF012  ASE declares it as an attribute of instances
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "gamma",
        "projections",
    ]

    def __init__(
        self,
        potential: Potential | str | os.PathLike[str],
        active_set: Mapping[str, FloatArray] | str | os.PathLike[str] | None = None,
        threads: int | None = None,
        *,
        path: str = "lanes",
        neighbours: Callable[[Atoms, float, Sequence[str]], Neighbourhood] = neighbourhood,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.evaluator = AceEvaluator(as_potential(potential), as_active_set(active_set), threads=threads, path=path)
        self._neighbours = neighbours

    @property
    def elements(self) -> tuple[str, ...]:
        return self.evaluator.elements

    @property
    def cutoff(self) -> float:
        """Largest cutoff, A."""
        return self.evaluator.cutoff

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Fill `results`.

        Raises
        ------
        ModelError
            An element is unknown, or the structure cannot be evaluated.
        PropertyNotImplementedError
            ``stress`` without a volume, ``gamma`` without an active set, or ``projections`` of a `.yace`.
        """
        super().calculate(atoms, properties, list(system_changes))
        structure = self.atoms if atoms is None else atoms
        if structure is None:
            raise ValueError("no atoms to calculate")
        frame = self._neighbours(structure, self.cutoff, self.elements)
        outcome = self.evaluator.evaluate(frame, gamma=self.evaluator.has_gamma)
        self.results = {
            "energy": outcome.energy,
            "free_energy": outcome.energy,
            "energies": outcome.energies,
            "forces": outcome.forces,
        }
        if structure.cell.rank == 3:
            self.results["stress"] = stress_from_virial(outcome.virial, structure.get_volume())
        if outcome.gamma is not None:
            self.results["gamma"] = outcome.gamma
        if "projections" in properties and self.evaluator.potential.has_projections:
            self.results["projections"] = self.evaluator.projections(frame)
        for name in properties:
            if name not in self.results:
                raise PropertyNotImplementedError(f"{name}: {_WHY_NOT[name]}")

    def projections_of(self, atoms: Atoms) -> list[FloatArray]:
        """Return the B-projections of each atom, each as long as its species has functions."""
        values = self.evaluator.projections(self._neighbours(atoms, self.cutoff, self.elements))
        counts = dict(zip(self.elements, self.evaluator.potential.n_functions, strict=True))
        return [np.array(row[: counts[symbol]]) for row, symbol in zip(values, atoms.symbols, strict=True)]


_WHY_NOT = {
    "stress": "the cell has no volume",
    "gamma": "no active set was given",
    "projections": "a .yace file has no B-basis; load the .yaml",
}
