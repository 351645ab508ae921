"""The fit of all rows, and the files that say what it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.data import chemical_symbols

from mlip_autopipec.ace.growing import GrowingRows
from mlip_autopipec.ace.linear import Fit, solve, stiffness_of
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import write_json, write_text
from mlip_autopipec.core.interfaces import Design, FloatArray, LinearBasis
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.stages.train.errors import Prediction, errors, predict
from mlip_autopipec.stages.train.overlay import NO_BASELINE, Baseline
from mlip_autopipec.stages.train.settings import TrainingSettings
from mlip_autopipec.stages.train.weights import Weighting, relative_energy
from mlip_autopipec.store.dataset import DatasetRow
from mlip_autopipec.store.labelrange import KEY, label_range

UNCERTAINTY: Final = "uncertainty.npz"


@dataclass(frozen=True)
class Trained:
    """The outcome of one fit.

    Attributes
    ----------
    fit : coefficients and report
    predictions : task id -> prediction, for every row
    """

    fit: Fit
    predictions: dict[str, Prediction]


def train(
    rows: Sequence[DatasetRow],
    basis: LinearBasis,
    settings: TrainingSettings,
    isolated: Mapping[str, float],
    folder: Path,
    *,
    design_of: Callable[[DatasetRow], Design],
    growing: GrowingRows | None = None,
    baseline: Baseline = NO_BASELINE,
) -> Trained:
    """Fit all rows and write the potential with its metrics and settings.

    Parameters
    ----------
    isolated
        Energy of one free atom per element, eV.
    folder
        Existing work folder.
    design_of
        ``basis.design`` of a row's structure, or a cache of it; called more than once for each row.
    growing
        What earlier fits with the same basis and settings have reduced; None: nothing.
    baseline
        What MD adds to ACE: only the rest of the labels is learned. Predictions are of both together.

    Raises
    ------
    DataError
        There is nothing to learn, for one element at least.
    """
    check_elements(rows, basis, isolated)
    growing = growing or GrowingRows(basis.n_coefficients)
    weighting, added = Weighting(rows, settings, isolated), baseline.overlay
    triangle = growing.triangle(
        [
            (row.task_id, row.edition, row.learned.tobytes(), relative_energy(row, isolated), weighting.key(row), added)
            for row in rows
        ],
        lambda place: weighting.parts(rows[place], design_of(rows[place]), baseline),
        weighting.scales,
    )
    result = solve(triangle, stiffness(basis, settings), ridge=settings.ridge, length_power=settings.length_power)
    basis.write(result.coefficients, isolated, folder)
    predictions = {row.task_id: predict(design_of(row), result.coefficients).on(baseline(row)) for row in rows}
    seen = label_range(rows, isolated)
    metrics = {**errors(rows, predictions, isolated), KEY: seen and seen.to_dict(), "fit": asdict(result.report)}
    write_json(folder / "metrics.json", metrics)
    # noise**2 * influence @ influence.T is the covariance of the coefficients; half the size is precise enough.
    np.savez(folder / UNCERTAINTY, influence=result.influence.astype(np.float32), noise=result.report.noise)
    write_text(folder / "train_config.yaml", dump_mapping(describe(settings, basis, isolated)))
    return Trained(result, predictions)


def stiffness(basis: LinearBasis, settings: TrainingSettings) -> FloatArray:
    """Return (K,) how much closer to zero the prior holds each function."""
    return stiffness_of(basis.ranks, settings.rank_stiffness, basis.degrees, settings.smoothness)


def check_elements(rows: Sequence[DatasetRow], basis: LinearBasis, isolated: Mapping[str, float]) -> None:
    """Refuse a fit in which an element has no label or no reference energy.

    Raises
    ------
    DataError
        Which element.
    """
    numbers = np.unique(np.concatenate([row.atoms.numbers[row.learned] for row in rows] or [np.zeros(0, dtype=int)]))
    labelled = {chemical_symbols[number] for number in numbers}
    for element in basis.elements:
        if element not in labelled:
            hint = f"add structures with {element} to start.dataset"
            # Its label may be the next to come.
            raise DataError(f"no label has a learned {element} atom", hint, transient=True)
        if element not in isolated:
            raise DataError(f"no energy of an isolated {element} atom", "give it in training.reference_energies")


def describe(settings: TrainingSettings, basis: LinearBasis, isolated: Mapping[str, float]) -> dict[str, Any]:
    """Return what was chosen, for `train_config.yaml`."""
    functions = {f"rank_{rank}": list(basis.ranks).count(rank) for rank in sorted(set(basis.ranks))}
    return {
        "trainer": "linear",
        "elements": list(basis.elements),
        "isolated_atom_energies": {element: float(isolated[element]) for element in basis.elements},
        "functions": {"total": basis.n_coefficients, **functions},
        "settings": settings.model_dump(mode="json"),
    }


def hashes(settings: TrainingSettings, elements: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the manifest's `config_hash` (all settings) and `basis_hash` (what decides the design rows)."""
    yield "config_hash", _hash(settings.model_dump(mode="json"))
    yield "basis_hash", _hash({"elements": sorted(elements), **settings.basis.model_dump(mode="json")})


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
