"""What a fit says of the rows it has seen, and how wrong that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlip_autopipec.core.interfaces import Design, FloatArray
from mlip_autopipec.stages.train.weights import relative_energy
from mlip_autopipec.store.dataset import DatasetRow


@dataclass(frozen=True)
class Prediction:
    """What a fit says about one row: energy (eV, relative to isolated atoms) and forces (N, 3) eV/A."""

    energy: float
    forces: FloatArray

    def on(self, baseline: Prediction) -> Prediction:
        """Return the sum with what the baseline says."""
        return Prediction(self.energy + baseline.energy, self.forces + baseline.forces)


def predict(design: Design, coefficients: FloatArray) -> Prediction:
    """Return energy and forces of one structure, without a baseline."""
    return Prediction(float(design.energy @ coefficients), design.forces @ coefficients)


def errors(
    rows: Sequence[DatasetRow], predictions: Mapping[str, Prediction], isolated: Mapping[str, float]
) -> dict[str, Any]:
    """Return training errors, overall and by `config_type`; JSON-ready.

    Forces of learned atoms in eV/A, by component; energies of whole cells in meV/atom; null where there are none.
    """
    groups = sorted({row.config_type for row in rows})
    by_group = {g: [row for row in rows if row.config_type == g] for g in groups}
    return {
        **_errors_of(rows, predictions, isolated),
        "groups": {g: _errors_of(members, predictions, isolated) for g, members in by_group.items()},
    }


def _errors_of(
    rows: Sequence[DatasetRow], predictions: Mapping[str, Prediction], isolated: Mapping[str, float]
) -> dict[str, Any]:
    forces = [(predictions[r.task_id].forces - r.forces)[r.learned].ravel() for r in rows]
    energies = [
        (predictions[r.task_id].energy - relative_energy(r, isolated)) / len(r.atoms) * 1e3 for r in rows if r.whole
    ]
    force_rmse, force_mae = _rmse_mae(np.concatenate([np.zeros(0), *forces]))
    energy_rmse, energy_mae = _rmse_mae(np.asarray(energies))
    return {
        "structures": len(rows),
        "learned_atoms": int(sum(r.learned.sum() for r in rows)),
        "force_rmse": force_rmse,
        "force_mae": force_mae,
        "energy_rmse_mev": energy_rmse,
        "energy_mae_mev": energy_mae,
    }


def _rmse_mae(differences: FloatArray) -> tuple[float | None, float | None]:
    if differences.size == 0:
        return None, None
    return float(np.sqrt(np.mean(differences**2))), float(np.mean(np.abs(differences)))
