"""Errors of a potential on labelled structures."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mlip_autopipec.monitor.accuracy import errors


class Exact:
    """Forces of 1 eV/A along x on every atom, no energy."""

    cutoff = 4.0
    elements = ("Al",)

    def evaluate(self, frame: Any) -> Any:
        forces = np.zeros((3, 3))
        forces[:, 0] = 1.0
        return SimpleNamespace(energy=0.0, forces=forces)


def labelled(*, fixed: bool) -> Atoms:
    atoms = Atoms("Al3", positions=[[0, 0, 0], [2.5, 0, 0], [5, 0, 0]], cell=[12, 12, 12], pbc=True)
    if fixed:
        atoms.set_constraint(FixAtoms([0, 1]))
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=[[1.0, 0, 0]] * 3)
    return atoms


@pytest.mark.parametrize("fixed", [False, True])
def test_constraints_of_a_file_are_no_errors(fixed: bool) -> None:
    told = errors(Exact(), [labelled(fixed=fixed)], {"Al": 0.0})  # type: ignore[arg-type]
    assert told["force_rmse"] == 0.0
