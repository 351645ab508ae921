"""Atoms whose B-projections an active set is selected from: those that entered the fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip_autopipec.ace.rowblocks import RowBlocks
from mlip_autopipec.core.interfaces import Design, FloatArray, LinearBasis
from mlip_autopipec.stages.train.settings import TrainingSettings
from mlip_autopipec.store.dataset import DatasetRow


def active_rows(
    rows: Sequence[DatasetRow],
    basis: LinearBasis,
    settings: TrainingSettings,
    design_of: Callable[[DatasetRow], Design],
) -> dict[str, RowBlocks]:
    """Return per element (n, k) the B-projections of the atoms whose force, or whose cell's energy, entered the fit.

    A block is what one structure has; its design is asked for when the block is read.
    """
    entered = [_entered(row, settings) for row in rows]

    def blocks(element: str) -> RowBlocks:
        found = [here[row.atoms.numbers == atomic_numbers[element]] for row, here in zip(rows, entered, strict=True)]
        having = [place for place, mask in enumerate(found) if mask.any()]
        if not having:  # nothing of this element was learned yet: any environment of it is new
            _, values = basis.projections(Atoms(element))[element]
            return RowBlocks([0], lambda _: values[:0])

        def block(k: int) -> FloatArray:
            place = having[k]
            _, values = design_of(rows[place]).projections[element]
            return values if found[place].all() else values[found[place]]

        return RowBlocks([int(found[place].sum()) for place in having], block)

    return {element: blocks(element) for element in basis.elements}


def _entered(row: DatasetRow, settings: TrainingSettings) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.ones(len(row.atoms), dtype=bool) if settings.teaches_energy(whole=row.whole) else row.learned
