"""dataset -> train: weighted, masked fit -> potential.yaml/.yace.

Reads: rows of `dataset.db`. Writes: `potential.yaml`, `potential.yace`, `metrics.json`, `uncertainty.npz`,
`train_config.yaml` into a work folder. Next: `publish`.
"""

from mlip_autopipec.stages.train.active import active_rows
from mlip_autopipec.stages.train.errors import Prediction, errors, predict
from mlip_autopipec.stages.train.fit import UNCERTAINTY, Trained, check_elements, describe, hashes, stiffness, train
from mlip_autopipec.stages.train.settings import BasisSettings, EnergyWindow, TrainingSettings
from mlip_autopipec.stages.train.weights import RowWeights, Weighting, labelled_design, relative_energy

__all__ = [
    "UNCERTAINTY",
    "BasisSettings",
    "EnergyWindow",
    "Prediction",
    "RowWeights",
    "Trained",
    "TrainingSettings",
    "Weighting",
    "active_rows",
    "check_elements",
    "describe",
    "errors",
    "hashes",
    "labelled_design",
    "predict",
    "relative_energy",
    "stiffness",
    "train",
]
