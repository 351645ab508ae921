"""dataset -> train: weighted, masked fit -> potential.yaml/.yace.

Reads: rows of `dataset.db`. Writes: `potential.yaml`, `potential.yace`, `metrics.json`, `uncertainty.npz`,
`train_config.yaml` into a work folder. Next: `publish`.
"""

from mlip_autopipec.stages.train.active import active_rows
from mlip_autopipec.stages.train.errors import Prediction, errors, predict
from mlip_autopipec.stages.train.fit import UNCERTAINTY, Trained, check_elements, describe, hashes, stiffness, train
from mlip_autopipec.stages.train.functions import Functions, chosen_functions, kept_functions
from mlip_autopipec.stages.train.overlay import NO_BASELINE, Baseline, wanted_overlay
from mlip_autopipec.stages.train.settings import BasisSettings, EnergyWindow, TrainingSettings
from mlip_autopipec.stages.train.weights import RowWeights, Weighting, labelled_design, relative_energy

__all__ = [
    "NO_BASELINE",
    "UNCERTAINTY",
    "Baseline",
    "BasisSettings",
    "EnergyWindow",
    "Functions",
    "Prediction",
    "RowWeights",
    "Trained",
    "TrainingSettings",
    "Weighting",
    "active_rows",
    "check_elements",
    "chosen_functions",
    "describe",
    "errors",
    "hashes",
    "kept_functions",
    "labelled_design",
    "predict",
    "relative_energy",
    "stiffness",
    "train",
    "wanted_overlay",
]
