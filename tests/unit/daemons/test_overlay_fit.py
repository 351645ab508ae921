"""`training.baseline` as an overlay: the fit learns the rest, MD and the gate see the total, squeezed pairs repel."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from test_baseline import ISOLATED, TRAINING, alloys
from test_poison import Loop, aluminium, hot

from mlip_autopipec.ace.baseline import BEGINS
from mlip_autopipec.ace.growing import GrowingRows
from mlip_autopipec.ace.overlay import LennardJones, read_overlay
from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.files import read_json
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.core.yamlfile import read_mapping
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.daemons.evaluators import load_evaluator, make_evaluator
from mlip_autopipec.daemons.gate import evaluation_by
from mlip_autopipec.daemons.gatejudge import GateJudge
from mlip_autopipec.daemons.squeezing import ShortestPairs, squeezed_pushes
from mlip_autopipec.stages.baseline import put_core
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.gate import repulsive_core
from mlip_autopipec.stages.train import Baseline, TrainingSettings, train, wanted_overlay
from mlip_autopipec.store.registry import Registry

ZBL = {"baseline": "zbl", "baseline_form": "overlay"}
LJ = {"baseline": "lj"}
KINDS = pytest.mark.parametrize("kind", [ZBL, LJ], ids=["zbl", "lj"])


class Fits:
    """Fits of the same labels with different baselines and ridges; design rows are computed once."""

    def __init__(self, make) -> None:
        self.rows = alloys(24)
        self.shortest = ShortestPairs().of(self.rows)
        self.basis = make_basis(TrainingSettings.model_validate(TRAINING), ("Al", "Cu"))
        self.design_of = cache(lambda number: self.basis.design(self.rows[number].atoms))
        self.growing = GrowingRows(self.basis.n_coefficients)
        self._make = make

    def fit(self, ridge: float, baseline: dict, rows=None) -> Path:
        folder = self._make("fit")
        settings = TrainingSettings.model_validate({**TRAINING, **baseline, "ridge": ridge})
        overlay = wanted_overlay(settings, self.basis.elements, self.shortest, self.basis.cutoff)
        rows = rows or self.rows
        train(
            rows, self.basis, settings, ISOLATED, folder,
            design_of=lambda row: self.design_of(int(row.task_id)),
            growing=self.growing, baseline=Baseline(overlay, self.basis.elements),
        )  # fmt: skip
        put_core(folder, self.shortest, ISOLATED, overlay)
        return folder


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    return Fits(tmp_path_factory.mktemp)


OTHERS = [pytest.param(ridge, marks=pytest.mark.slow) for ridge in (1e-11, 1e-8, 1e-5)]


@KINDS
@pytest.mark.parametrize("ridge", [1e-14, *OTHERS, 1e-3])
def test_pairs_repel_from_the_shortest_trained_distance_to_0_3_angstrom(fits, kind, ridge):
    folder = fits.fit(ridge, kind)
    evaluate = evaluation_by("ace")
    for name, frames in (("potential.yaml", fits.rows[:20]), ("potential.yace", fits.rows[:1])):
        said = partial(evaluate, folder / name, None)
        pushed = list(squeezed_pushes(frames, fits.shortest, said, first=1.0))
        assert {p["pair"] for p in pushed} == {"Al-Al", "Al-Cu", "Cu-Cu"}
        check = repulsive_core(pushed)
        assert check.passed, check.told
        assert len(pushed) > len(frames) * 2 * 16


def test_where_ace_would_pull_it_is_off_from_farther_out(fits):
    """ZBL that reaches into the trained distances is harder than the truth: ACE pulls below them, unless it is off."""
    folder = fits.fit(1e-14, {**ZBL, "zbl_cutoffs": [2.5, 3.333]})
    overlay = load_evaluator(folder / "potential.yaml").overlay
    judge = GateJudge(Registry(folder), evaluation_by("ace"), level=5.0, tolerance=0.25)
    passed = []
    for begin in BEGINS:
        put_core(folder, fits.shortest, ISOLATED, overlay, begin)
        evaluator = load_evaluator(folder / "potential.yaml")
        passed.append(all(judge.repels(evaluator, [row]) for row in fits.rows[:20]))
    assert not passed[0]
    assert passed[-1]


@pytest.mark.parametrize("kind", [{**ZBL, "zbl_cutoffs": [2.5, 4.0]}, LJ], ids=["zbl", "lj"])
def test_a_truth_of_baseline_and_ace_is_recovered(fits, kind):
    """Labels by random coefficients on top of the baseline: the fit finds them again, without it it does not."""
    settings = TrainingSettings.model_validate({**TRAINING, **kind, "ridge": 0.0})
    overlay = wanted_overlay(settings, fits.basis.elements, fits.shortest, fits.basis.cutoff)
    truth = np.random.default_rng(5).normal(0, 0.05, fits.basis.n_coefficients)
    said = Baseline(overlay, fits.basis.elements)
    rows = []
    for number, row in enumerate(fits.rows):
        design = fits.design_of(number)
        free = sum(ISOLATED[symbol] for symbol in row.atoms.get_chemical_symbols())
        energy, forces = design.energy @ truth + said(row).energy + free, design.forces @ truth + said(row).forces
        rows.append(replace(row, energy=float(energy), forces=forces))
    assert max(np.abs(said(row).forces).max() for row in rows) > 0.5
    folder = fits.fit(0.0, kind, rows)
    evaluate = evaluation_by("ace")
    for row in rows[:4]:
        found = evaluate(folder / "potential.yaml", None, row.atoms)
        assert found.forces == pytest.approx(row.forces, abs=1e-6 * np.abs(row.forces).max())
    assert read_json(folder / "metrics.json")["force_rmse"] < 1e-6
    assert read_json(fits.fit(0.0, {}, rows) / "metrics.json")["force_rmse"] > 1e-4


def test_lennard_jones_follows_from_the_shortest_trained_distance_unless_it_is_given(fits):
    given = TrainingSettings.model_validate({**TRAINING, **LJ, "lj_pairs": {"Cu-Al": {"epsilon": 0.3, "sigma": 2.0}}})
    overlay = wanted_overlay(given, ("Al", "Cu"), {("Al", "Al"): 2.137}, 5.0)
    assert overlay.pair("Cu", "Al") == LennardJones(("Al", "Cu"), 0.3, 2.0, 2.0 * 2 ** (1 / 6))
    assert overlay.pair("Al", "Al") == LennardJones(("Al", "Al"), 0.1, 2.1, 2.1 * 2 ** (1 / 6))
    assert overlay.pair("Cu", "Cu").sigma == pytest.approx(0.85 * 2 * 1.32, abs=0.05)  # covalent radius
    for pairs, said in (({"Al-Fe": {}}, "no pair of Al Cu"), ({"Al-Al": {"cutoff": 7.0}}, "beyond")):
        named = {name: {"epsilon": 0.1, "sigma": 2.0, **more} for name, more in pairs.items()}
        with pytest.raises(ConfigError, match=rf"training\.lj_pairs: .*{said}"):
            wanted_overlay(
                TrainingSettings.model_validate({**TRAINING, **LJ, "lj_pairs": named}), ("Al", "Cu"), {}, 5.0
            )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"baseline": "lj", "baseline_form": "in-file"}, "no keys for lj"),
        ({"baseline": "zbl", "lj_pairs": {"Al-Al": {"epsilon": 1, "sigma": 1}}}, "write baseline: lj"),
        ({"baseline": "zbl", "zbl_cutoffs": [2, 3]}, "baseline_form: overlay"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(settings, said):
    with pytest.raises(ValidationError, match=said):
        TrainingSettings.model_validate({**TRAINING, **settings})


@KINDS
def test_versions_of_a_run_stand_on_it_refit_by_refit(tmp_path, kind):
    """Start labels, then hot ones that come nearer: the gate passes, trainer and engine agree, gamma is that of ACE."""
    world = aluminium(tmp_path)
    world.config = world.config.model_copy(update={"training": world.config.training.model_copy(update=kind)})
    loop = Loop(world)
    loop.intake.take_frames(read_structures(world.run.start / "dataset.extxyz", "start.dataset"))
    assert "candidate" not in loop.fit().facts
    for seed in range(3):
        loop.give(loop.task(hot(seed, 0.3)))
    assert "candidate" not in loop.fit().facts
    first, second = (loop.registry.path(version) for version in loop.registry.versions())
    checks = {check["name"]: check["passed"] for check in read_json(second / "gate.json")["checks"]}
    assert checks["repulsive_core"] is True
    assert checks["squeezed_pairs"] is True
    told = [read_json(folder / "manifest.json")["baseline"] for folder in (first, second)]
    assert {t["form"] for t in told} == {"overlay"}
    overlays = [read_overlay(t["overlay"], ("Al",), 6.0) for t in told]
    evaluators = [make_evaluator(folder) for folder in (first, second)]
    assert [evaluator.overlay for evaluator in evaluators] == overlays
    if kind is LJ:
        assert overlays[1].pair("Al", "Al").sigma < overlays[0].pair("Al", "Al").sigma
    lines = read_mapping(second / "train_config.yaml")["baseline"]["lammps"]
    assert lines[0].startswith("pair_style hybrid/overlay pace/extrapolation ")
    # The rows of the old version's fit were those of another baseline: a fit from nothing says the same.
    anew = Loop(world)
    anew.intake.take_results()
    assert_same(anew.fitter, loop, second)
    frame = neighbourhood(hot(1, 0.3), 6.0, ("Al",))
    assert evaluators[1].evaluate(frame, gamma=True).gamma.max() < 1.05


def assert_same(fitter, loop: Loop, folder: Path) -> None:
    from mlip_autopipec.daemons.fitjob import FitRequest

    parent = loop.registry.versions()[0]
    answer = fitter(FitRequest(tuple(sorted(loop.intake.trainable)), None, parent, (), parent))
    assert (answer.folder / "potential.yaml").read_bytes() == (folder / "potential.yaml").read_bytes()
