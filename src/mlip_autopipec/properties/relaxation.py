"""Structures brought to rest."""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS

from mlip_autopipec.core.errors import DataError

_MOST_STEPS: Final = 500


def relax_positions(atoms: Atoms, calculator: Any, *, force: float = 2e-3) -> Atoms:
    """Return a copy of `atoms` whose forces are below `force` (eV/A) at fixed cell.

    Raises
    ------
    DataError
        It does not come to rest.
    """
    copy = atoms.copy()
    copy.calc = calculator
    return _at_rest(copy, copy, force)


def relax_cell(atoms: Atoms, calculator: Any, *, force: float = 1e-3) -> Atoms:
    """Return a copy of `atoms` at rest, positions and cell; the stress times the volume per atom is below `force` (eV).

    Raises
    ------
    DataError
        It does not come to rest.
    """
    copy = atoms.copy()
    copy.calc = calculator
    return _at_rest(copy, FrechetCellFilter(copy, exp_cell_factor=float(len(copy))), force)


def _at_rest(atoms: Atoms, target: Any, force: float) -> Atoms:
    if not LBFGS(target, logfile=cast(Any, None), maxstep=0.1).run(fmax=force, steps=_MOST_STEPS):
        worst = float(np.abs(atoms.get_forces()).max())
        raise DataError(
            f"{atoms.get_chemical_formula()} does not come to rest within {_MOST_STEPS} steps: {worst:.3g} eV/A",
            "is this structure one that the potential knows?",
        )
    return atoms
