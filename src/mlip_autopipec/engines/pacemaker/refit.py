"""The basis of an existing potential, made ready for a fit of other coefficients."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.engines.pacemaker.basis import read_basis
from mlip_autopipec.engines.pacemaker.library import import_pyace

_HINT = "leave start.potential out and let the run fit its own"


def blank_basis(potential: Path, elements: Collection[str]) -> Any:
    """Return the functions of `potential` (.yaml) between `elements`, all coefficients zero.

    Functions of other elements are left out: no label could tell their coefficients.

    Raises
    ------
    ModelError
        The file is unreadable, does not know an element, or its energy is not linear in the coefficients.
    """
    basis = read_basis(potential)
    known = tuple(basis.elements_name)
    if unknown := sorted(set(elements) - set(known)):
        raise ModelError(f"{potential}: does not know {unknown[0]}, only {' '.join(known)}", _HINT)
    configuration = basis.to_BBasisConfiguration()
    blocks = [block for block in configuration.funcspecs_blocks if set(block.elements_vec) <= set(elements)]
    for block in blocks:
        _check_linear(potential, block)
    configuration.funcspecs_blocks = blocks
    blank = import_pyace().ACEBBasisSet(configuration)
    blank.basis_coeffs = np.zeros(len(blank.basis_coeffs))
    return blank


def _check_linear(potential: Path, block: Any) -> None:
    """Refuse more than one density, a power of it, and a core repulsion, which comes on top of the functions."""
    what = ""
    if block.number_of_species == 1 and (block.ndensityi != 1 or set(block.fs_parameters) != {1.0}):
        what = f"its embedding has {block.ndensityi} densities with parameters {list(block.fs_parameters)}"
    elif any(block.core_rep_parameters):
        what = "it has a core repulsion"
    if what:
        raise ModelError(f"{potential}: cannot be refitted by a linear fit: {block.block_name}: {what}", _HINT)
