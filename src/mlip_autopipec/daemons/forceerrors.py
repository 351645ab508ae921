"""Pairs of gamma and true force error: what a label says about a version that had not seen it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from mlip_autopipec.ace.maxvol import active_set, grade
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import Evaluator, FloatArray, LinearBasis
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.stages.calibrate import AUDIT, Pair
from mlip_autopipec.stages.masking import Masking
from mlip_autopipec.stages.train import TrainingSettings
from mlip_autopipec.store.dataset import DatasetRow


def basis_of(manifest: dict[str, Any]) -> str:
    """Return what names the functions of a version: gammas of different functions do not compare."""
    given = manifest.get("basis_of") or manifest.get("potential")
    return str(given or manifest.get("basis_hash", ""))


def pair_of(row: DatasetRow, evaluator: Evaluator, *, version: str, basis: str) -> Pair:
    """Compare one label with a version.

    Both are taken of the label's own cell, for which it is exact. An audit learns one atom, the one that was drawn; of
    other labels the learned atom with the largest gamma counts.

    Raises
    ------
    ModelError, Crashed
        The version cannot evaluate the structure.
    """
    found = evaluator.evaluate(neighbourhood(row.atoms, evaluator.cutoff, evaluator.elements), gamma=True)
    if found.gamma is None:
        raise DataError(f"{version}: has no active set, so nothing can be calibrated")
    return _pair(row, found.gamma, found.forces, version=version, basis=basis)


def regraded(
    row: DatasetRow,
    evaluator: Evaluator,
    contained: Iterable[DatasetRow],
    basis: LinearBasis,
    training: TrainingSettings,
    *,
    version: str,
    name: str,
) -> Pair:
    """Return the pair that `pair_of` would give, had `version` had the functions of `basis`.

    gamma is that of the active set of `contained`, the labels of `version`, in the new functions; the error is that of
    the version itself, which is what it was.

    Parameters
    ----------
    name
        Of the new functions.
    """
    inverses = {e: active_set(rows).inverse for e, rows in _training_rows(contained, basis, training).items()}
    gamma = np.zeros(len(row.atoms))
    for element, (members, values) in basis.projections(row.atoms).items():
        gamma[members] = grade(values, inverses[element]) if element in inverses else math.inf
    found = evaluator.evaluate(neighbourhood(row.atoms, evaluator.cutoff, evaluator.elements))
    return _pair(row, gamma, found.forces, version=version, basis=name)


def _training_rows(
    contained: Iterable[DatasetRow], basis: LinearBasis, training: TrainingSettings
) -> dict[str, FloatArray]:
    """Return per element the B-projections of the atoms that a fit would put into the active set."""
    found: dict[str, list[FloatArray]] = {}
    taught, _ = Masking(training.train_mask, training.force_limit).masked(list(contained))
    for row in taught:
        taught_by_energy = training.teaches_energy(whole=row.whole)
        entered = np.ones(len(row.atoms), dtype=bool) if taught_by_energy else row.learned
        for element, (members, values) in basis.projections(row.atoms).items():
            found.setdefault(element, []).append(values[entered[members]])
    return {element: np.concatenate(blocks) for element, blocks in found.items()}


def _pair(row: DatasetRow, gamma: FloatArray, forces: FloatArray, *, version: str, basis: str) -> Pair:
    learned = np.flatnonzero(row.learned)
    atom = int(learned[np.argmax(gamma[learned])])
    return Pair(
        task_id=row.task_id,
        version=version,
        basis=basis,
        audit=row.config_type == AUDIT,
        gamma=min(float(gamma[atom]), 1e9),
        error=float(np.linalg.norm(forces[atom] - row.forces[atom])),
        level=_level(row.origin.get("level")),
    )


def _level(said: Any) -> float:
    return float(said) if isinstance(said, int | float) and not isinstance(said, bool) else math.inf
