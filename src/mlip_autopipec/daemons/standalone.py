"""A potential from a file of labels, without a run: functions, fit, active set and the checks of a version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from mlip_autopipec.ace.basis_size import (
    DEFAULT_RUNG,
    ENERGY_WEIGHT,
    FORCE_WEIGHT,
    LENGTH_POWER,
    RANK_STIFFNESS,
    Choice,
    choose_basis,
)
from mlip_autopipec.ace.cutoff_search import best_cutoff
from mlip_autopipec.ace.fitting import AceBasis
from mlip_autopipec.ace.growing import GrowingSet, GrownSet
from mlip_autopipec.ace.linear import RowReducer, solve
from mlip_autopipec.core.files import write_json, write_text
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.daemons.designs import DesignCache
from mlip_autopipec.daemons.gate import evaluation_by, samples
from mlip_autopipec.daemons.squeezing import ShortestPairs
from mlip_autopipec.engines.pacemaker.settings import PacemakerSettings
from mlip_autopipec.stages.baseline import put_core
from mlip_autopipec.stages.publish import check, write_grades
from mlip_autopipec.stages.train import (
    Baseline,
    TrainingSettings,
    Weighting,
    active_rows,
    check_elements,
    describe,
    errors,
    labelled_design,
    predict,
    stiffness,
    wanted_overlay,
)
from mlip_autopipec.store.dataset import DatasetRow

# Largest degree of triples; the data may afford less.
RUNGS: Final[Mapping[str, int]] = {"small": 6, "auto": DEFAULT_RUNG, "large": 10}


@dataclass(frozen=True)
class Wanted:
    """What a person chose.

    Attributes
    ----------
    trainer : `pacemaker` refines what `linear` makes
    basis : one of `RUNGS`
    pacemaker : of that trainer
    baseline, form : as `training.baseline` and `training.baseline_form`
    """

    trainer: Literal["linear", "pacemaker"] = "linear"
    basis: str = "auto"
    pacemaker: PacemakerSettings = field(default_factory=PacemakerSettings)
    baseline: Literal["none", "zbl", "lj"] = "none"
    form: Literal["in-file", "overlay"] | None = None


def fit_rows(rows: Sequence[DatasetRow], isolated: Mapping[str, float], wanted: Wanted, folder: Path) -> dict[str, Any]:
    """Fit labels and write the files of a version into an existing folder; return what was chosen, JSON-ready.

    Raises
    ------
    DataError, ModelError, EngineError
        There is no fit, or its files fail the checks that every version passes.
    """
    weighting = Weighting(rows, _settings(wanted), isolated)
    distances = ShortestPairs().of(rows, masked=True)
    structures = [row.atoms for row in rows]
    search = best_cutoff(
        structures, lambda place, design: labelled_design(rows[place], design, weighting.of(rows[place]), isolated)
    )
    n_rows = sum(3 * int(row.learned.sum()) + row.whole for row in rows)
    choice = choose_basis(structures, n_rows, rung=RUNGS[wanted.basis], cutoff=search.cutoff)
    basis = AceBasis(choice.configuration)
    settings = _settings(wanted, choice)
    check_elements(rows, basis, isolated)
    designs = DesignCache(basis)
    overlay = wanted_overlay(settings, basis.elements, distances, basis.cutoff)
    baseline = Baseline(overlay, basis.elements)
    reducer = RowReducer(basis.n_coefficients)
    for row in rows:
        reducer.add(*labelled_design(row, designs(row), weighting.of(row), isolated, baseline(row)).rows())
    result = solve(reducer.triangle(), stiffness(basis, settings), ridge=settings.ridge, length_power=LENGTH_POWER)
    basis.write(result.coefficients, isolated, folder)
    said = {row.task_id: predict(designs(row), result.coefficients).on(baseline(row)) for row in rows}
    write_json(folder / "metrics.json", {**errors(rows, said, isolated), "fit": asdict(result.report)})
    chosen = {"size": wanted.basis, "limited_by": choice.limited_by, "cutoff": choice.cutoff, "rung": choice.rung,
              "functions": choice.n_functions, "shortest_distance": choice.shortest,
              "errors_by_cutoff": search.errors}  # fmt: skip
    described = {**describe(settings, basis, isolated), "basis": chosen}
    write_text(folder / "train_config.yaml", dump_mapping(described))
    if wanted.baseline != "none":
        put_core(folder, distances, isolated, overlay)
    if wanted.trainer == "pacemaker":
        from mlip_autopipec.daemons.refining import refined

        work = folder / "pacemaker"
        work.mkdir()
        found = refined(rows, settings, isolated, folder, work, said, baseline)
        said = found.predictions
        designs = designs if found.basis is None else DesignCache(found.basis)
    write_grades(folder, _active_sets(rows, settings, designs))
    check(folder, samples(rows, said, forces_entered=True), isolated, evaluation_by("ace"))
    return chosen


def _settings(wanted: Wanted, choice: Choice | None = None) -> TrainingSettings:
    return TrainingSettings(
        cutoff=choice and choice.cutoff,
        ridge=choice and choice.ridge,
        energy_weight=ENERGY_WEIGHT,
        force_weight=FORCE_WEIGHT,
        rank_stiffness=RANK_STIFFNESS,
        trainer=wanted.trainer,
        pacemaker=wanted.pacemaker,
        baseline=wanted.baseline,
        baseline_form=wanted.form,
    )


def _active_sets(rows: Sequence[DatasetRow], settings: TrainingSettings, designs: DesignCache) -> dict[str, GrownSet]:
    found = active_rows(rows, designs.basis, settings, designs)
    return {element: GrowingSet().of(None, blocks) for element, blocks in found.items()}
