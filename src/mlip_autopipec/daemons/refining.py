"""The linear potential refined by pacemaker: rows and weights of the fit go out, the result comes back as a version.

pacemaker begins with the linear solution as the first density, so it can only get better by its own measure; the
further densities begin at zero.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlip_autopipec.ace.baseline import without_baseline
from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.conversion import to_products
from mlip_autopipec.ace.fitting import AceBasis, blank
from mlip_autopipec.ace.formats.yace_writing import write_yace
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.ace.records import Configuration, Embedding
from mlip_autopipec.core.errors import OutputUnreadable
from mlip_autopipec.core.files import read_json, write_json, write_text
from mlip_autopipec.core.yamlfile import dump_mapping, read_mapping
from mlip_autopipec.engines.pacemaker.dataframe import Labelled
from mlip_autopipec.engines.pacemaker.refining import START, Refined, refine
from mlip_autopipec.engines.pacemaker.settings import PacemakerSettings
from mlip_autopipec.runtime.tether import tethered
from mlip_autopipec.stages.train import (
    NO_BASELINE,
    Baseline,
    Prediction,
    TrainingSettings,
    Weighting,
    errors,
    relative_energy,
)
from mlip_autopipec.store.dataset import DatasetRow

logger = logging.getLogger(__name__)

_LINEAR = Embedding(kind="FinnisSinclairShiftedScaled", parameters=(1.0, 1.0))


@dataclass(frozen=True)
class Refinement:
    """A refined potential.

    Attributes
    ----------
    predictions : task id -> what pacemaker itself says, for every row
    basis : its functions as a linear basis, for the active set; None: those of the linear fit
    """

    predictions: dict[str, Prediction]
    basis: AceBasis | None


def refined(
    rows: Sequence[DatasetRow],
    settings: TrainingSettings,
    isolated: Mapping[str, float],
    folder: Path,
    work: Path,
    said: Mapping[str, Prediction],
    baseline: Baseline = NO_BASELINE,
) -> Refinement:
    """Refine the linear potential of a work folder; replace its files by those of the result.

    Parameters
    ----------
    folder
        With `potential.yaml`, `metrics.json` and `train_config.yaml` of the linear fit.
    work
        Empty folder for pacemaker; it stays.
    said
        What the linear fit says of the rows, by task id.
    baseline
        What MD adds to ACE; pacemaker sees what it leaves of the labels.

    Raises
    ------
    ConfigError, EngineError
        pacemaker is missing, or fails; the linear files are as they were.
    """
    wanted = settings.pacemaker
    linear = read_yaml(folder / "potential.yaml")
    write_yaml(with_densities(linear, wanted.embedding_exponents), work / START)
    cutoff = make_basis(linear).cutoff
    made = refine(labelled(rows, settings, isolated, baseline), cutoff, wanted, work, tethered([]))
    if made.iterations == 0:
        logger.warning(
            "pacemaker found nothing better than the linear fit: training.pacemaker.kappa, .l2 and "
            ".embedding_exponents change what is better"
        )
    elif missing := [row.task_id for row in rows if row.task_id not in made.predictions]:
        raise OutputUnreadable(f"pacemaker says nothing of label {missing[0]}", f"see {work}")
    else:
        said = {row.task_id: Prediction(*made.predictions[row.task_id]).on(baseline(row)) for row in rows}
    found = read_yaml(made.potential)
    # The same fit is the same file, whenever it was made.
    metadata = {key: said for key, said in found.metadata.items() if "time" not in key}
    found = replace(found, metadata=metadata, overlay=linear.overlay)
    products = to_products(make_basis(found), isolated)
    write_yaml(found, folder / "potential.yaml")
    write_yace(products, folder / "potential.yace")
    _describe(rows, said, isolated, made, wanted, folder)
    functions = with_densities(without_baseline(blank(found, found.elements)), (1.0,))
    return Refinement(dict(said), AceBasis(functions) if wanted.trainable == "all" else None)


def labelled(
    rows: Sequence[DatasetRow],
    settings: TrainingSettings,
    isolated: Mapping[str, float],
    baseline: Baseline = NO_BASELINE,
) -> list[Labelled]:
    """Return rows, or what a baseline leaves of them, with the weights that the linear fit gives them: masked atoms
    weigh 0.

    The linear fit divides the squared error of a cell's energy by its number of atoms N, pacemaker by N squared: its
    weight has another N, or large cells would count less than they did.
    """
    weighting = Weighting(rows, settings, isolated)
    return [
        Labelled(
            name=row.task_id,
            atoms=row.atoms,
            energy=row.energy - known.energy,
            energy_corrected=relative_energy(row, isolated) - known.energy,
            forces=row.forces - known.forces,
            energy_weight=weights.energy * len(row.atoms),
            force_weights=weights.forces,
        )
        for row in rows
        for weights in [weighting.of(row)]
        for known in [baseline(row)]
    ]


def with_densities(linear: Configuration, exponents: Sequence[float]) -> Configuration:
    """Return a linear potential as the first of several densities; coefficients of the others are zero."""
    parameters = tuple(value for exponent in exponents for value in (1.0, float(exponent)))
    embedding = replace(_LINEAR, parameters=parameters)
    rest = (0.0,) * (len(exponents) - 1)
    blocks = [
        replace(
            block,
            embedding=embedding if block.embedding is not None else None,
            functions=tuple(replace(f, coefficients=(f.coefficients[0], *rest)) for f in block.functions),
        )
        for block in linear.blocks
    ]
    return replace(linear, blocks=tuple(blocks))


def _describe(
    rows: Sequence[DatasetRow],
    said: Mapping[str, Prediction],
    isolated: Mapping[str, float],
    made: Refined,
    settings: PacemakerSettings,
    folder: Path,
) -> None:
    """Say in the version's files who made it, and how wrong it is."""
    before: dict[str, Any] = dict(read_json(folder / "metrics.json"))
    linear = {key: before[key] for key in ("force_rmse", "energy_rmse_mev")}
    write_json(
        folder / "metrics.json",
        {**before, **errors(rows, said, isolated), "linear": linear, "iterations": made.iterations},
    )
    described = {
        **read_mapping(folder / "train_config.yaml"),
        "trainer": "pacemaker",
        "pacemaker": settings.model_dump(mode="json"),
    }
    write_text(folder / "train_config.yaml", dump_mapping(described))
