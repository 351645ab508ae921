"""Potentials of chosen frames, and their force errors: everything is linear, so rows are computed once."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.emt import EMT

from mlip_autopipec.core.interfaces import Design
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.stages.train import TrainingSettings, train
from mlip_autopipec.store.dataset import DatasetRow

SETTINGS = TrainingSettings(cutoff=5.6, radial_decay=1.0, nradmax_by_orders=(12, 4, 2), lmax_by_orders=(0, 3, 2))


class Fits:
    """Fits and judges potentials of one material.

    Parameters
    ----------
    judges
        Labelled frames by name.
    """

    def __init__(self, elements: Sequence[str], judges: dict[str, list[Atoms]]) -> None:
        self._basis = make_basis(SETTINGS, elements)
        self._isolated = {element: _free(element) for element in elements}
        self._judges = judges
        self._rows: dict[int, Design] = {}
        self._kept: list[Atoms] = []

    def _design(self, atoms: Atoms) -> Design:
        if id(atoms) not in self._rows:
            self._rows[id(atoms)] = self._basis.design(atoms)
            self._kept.append(atoms)  # an id lives as long as its object
        return self._rows[id(atoms)]

    def errors(self, frames: Sequence[Atoms]) -> dict[str, np.ndarray]:
        """Return the length of each atom's force error by judge, eV/A, of a potential trained on `frames`."""
        rows = {str(number): atoms for number, atoms in enumerate(frames)}
        labels = [
            DatasetRow(
                name, atoms, float(atoms.get_potential_energy()), atoms.get_forces(), None, (1,) * len(atoms), "x"
            )
            for name, atoms in rows.items()
        ]
        with tempfile.TemporaryDirectory() as folder:
            fit = train(
                labels,
                self._basis,
                SETTINGS,
                self._isolated,
                Path(folder),
                design_of=lambda row: self._design(rows[row.task_id]),
            ).fit
        return {
            name: np.concatenate(
                [np.linalg.norm(self._design(f).forces @ fit.coefficients - f.get_forces(), axis=1) for f in judge]
            )
            for name, judge in self._judges.items()
        }


def _free(element: str) -> float:
    atoms = Atoms(element)
    atoms.calc = EMT()
    return float(atoms.get_potential_energy())
