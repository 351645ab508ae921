"""The trainer's calibration: pairs are true and of versions that had not seen the label; walkers follow."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from trainer_parts import NOW, World, frame, label, labelled

from mlip_autopipec.cli.main import cli
from mlip_autopipec.core.files import read_json, write_json
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.calibrator import Calibrator
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.fitjob import FitJob, FitRequest
from mlip_autopipec.daemons.fitter import Fitter
from mlip_autopipec.daemons.haltlevel import HaltLevel
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.stages.calibrate import AUDIT, LOWEST_LEVEL
from mlip_autopipec.stages.publish import publish
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.calibration import read_calibration
from mlip_autopipec.store.dataset import Dataset
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import make_result
from mlip_autopipec.store.task import Task


class Calibrated(World):
    """A run with versions, audits and a calibrator; `target` in eV/A."""

    def __init__(self, root: Path, target: float | None = 0.1, **training: Any) -> None:
        super().__init__(root, [], **training)
        self.otf = OtfSettings(target_force_error=target)
        self.registry = Registry(self.run.potentials)
        self.intake = Intake(self.run, self.config.labeller_settings(), force_limit=1e5)
        self.intake.load()
        self.intake.take_frames([labelled(s) for s in range(6)])
        self.calibrator = self.another()

    def another(self) -> Calibrator:
        made = Calibrator(self.run.calibration, self.intake, self.registry, self.otf, self.config.training)
        made.load()
        return made

    def fit(self, training: Any = None) -> str:
        config = self.config
        job = FitJob(self.run.root, training or config.training, config.labeller_settings(), config.node, ("Ar",))
        answer = Fitter(job)(FitRequest(tuple(sorted(self.intake.trainable))))
        return publish(self.registry, answer.folder, {"parent": None, **answer.facts})

    def ask(self, seed: int, version: str, *, audit: bool, shift: float = 0.0, stretch: float = 1.0) -> str:
        """Have one environment labelled; the label is `shift` eV/A wrong in each direction."""
        atoms = frame(seed)
        atoms.positions[4, :2] += 0.3 * (stretch - 1.0)
        mask = [int(i == 4) for i in range(9)] if audit else [1, 1, 1, 0, 1, 1, 0, 0, 0]
        origin = {"walker": "w00", "step": seed, "version": version, **({"level": 5.0} if audit else {})}
        task = Task.new(
            atoms, mask, self.config.labeller_settings(), priority=0.5, origin=origin,
            config_type=AUDIT if audit else "active_learning", created=NOW,
        )  # fmt: skip
        truth = label(task.atoms())
        self.results.write_once(task.id, make_result(task, replace(truth, forces=truth.forces + shift), "test", NOW))
        self.intake.take_results()
        return task.id

    def settle(self) -> dict[str, Any]:
        while self.calibrator.step():
            pass
        return read_json(self.run.calibration)


def truth_of(world: Calibrated, task_id: str, version: str) -> tuple[float, float]:
    """gamma and force error of the worst learned atom, computed here."""
    row = Dataset(world.run.dataset).row(task_id)
    evaluator = make_evaluator(world.registry.path(version))
    found = evaluator.evaluate(neighbourhood(row.atoms, evaluator.cutoff, ("Ar",)), gamma=True)
    atom = max(np.flatnonzero(row.learned), key=lambda i: found.gamma[i])
    return float(found.gamma[atom]), float(np.linalg.norm(found.forces[atom] - row.forces[atom]))


def test_audits_are_compared_with_each_new_version_and_labels_with_the_one_that_asked(tmp_path: Path) -> None:
    world = Calibrated(tmp_path)
    first = world.fit()
    audit, halted = world.ask(30, first, audit=True), world.ask(31, first, audit=False, stretch=3.0)
    before = {pair["task_id"]: pair for pair in world.settle()["pairs"]}
    assert set(before) == {audit, halted}  # not the start structures, which every version has seen
    for task_id in (audit, halted):
        expected = truth_of(world, task_id, first)
        assert (before[task_id]["gamma"], before[task_id]["error"]) == pytest.approx(expected)
    second = world.fit()
    content = world.settle()
    after = {pair["task_id"]: pair for pair in content["pairs"]}
    assert content["version"] == second
    assert after[halted] == before[halted]
    assert after[audit]["version"] == second
    assert (after[audit]["gamma"], after[audit]["error"]) == pytest.approx(truth_of(world, audit, second))
    assert set(content["versions"]) == {first, second}


def test_a_new_process_goes_on_with_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Calibrated(tmp_path)
    version = world.fit()
    world.ask(30, version, audit=True)
    before = world.settle()
    world.calibrator = world.another()

    def never(*_: Any) -> None:
        raise AssertionError("compared again")

    monkeypatch.setattr("mlip_autopipec.daemons.calibrator.pair_of", never)
    assert world.settle() == before


def test_gamma_is_recomputed_when_the_basis_changes(tmp_path: Path) -> None:
    """As if the version that asked had had the functions of now."""
    world = Calibrated(tmp_path)
    first = world.fit()
    halted = world.ask(31, first, audit=False, stretch=3.0)
    (before,) = world.settle()["pairs"]
    other = world.config.training.model_copy(update={"nradmax_by_orders": (7, 2)})
    # What the first version would have been with these functions, in a run of its own.
    twin = Calibrated(tmp_path / "twin")
    expected = truth_of_other_basis(twin, other, world, halted)
    second = world.fit(other)
    (after,) = world.settle()["pairs"]
    assert after["version"] == first
    assert after["basis"] == world.registry.manifest(second)["basis_hash"] != before["basis"]
    assert after["gamma"] == pytest.approx(expected, rel=1e-6)
    assert after["gamma"] != pytest.approx(before["gamma"], rel=1e-3)


def truth_of_other_basis(twin: Calibrated, training: Any, world: Calibrated, task_id: str) -> float:
    version = twin.fit(training)
    row = Dataset(world.run.dataset).row(task_id)
    evaluator = make_evaluator(twin.registry.path(version))
    found = evaluator.evaluate(neighbourhood(row.atoms, evaluator.cutoff, ("Ar",)), gamma=True)
    return float(found.gamma[row.learned].max())


def test_a_label_that_was_made_again_is_compared_again(tmp_path: Path) -> None:
    world = Calibrated(tmp_path)
    version = world.fit()
    audit = world.ask(30, version, audit=True)
    (before,) = world.settle()["pairs"]
    world.results.supersede(audit)
    row = Dataset(world.run.dataset).row(audit)
    task = Task.new(
        row.atoms, list(row.force_mask), world.config.labeller_settings(), priority=0.5, origin=row.origin,
        config_type=AUDIT, created=NOW,
    )  # fmt: skip
    truth = label(row.atoms)
    world.results.write_once(audit, make_result(task, replace(truth, forces=truth.forces + 1.0), "test", NOW))
    world.intake.take_results()
    (after,) = world.settle()["pairs"]
    assert after["error"] == pytest.approx(truth_of(world, audit, version)[1])
    assert after["error"] > before["error"] + 1.0


def test_the_walker_halts_at_the_level_of_the_audits(tmp_path: Path) -> None:
    world = Calibrated(tmp_path, target=0.5)
    version = world.fit()
    level = HaltLevel(world.run.calibration, world.otf)
    for seed in range(29):
        world.ask(100 + seed, version, audit=True)
    assert world.settle()["level"] is None
    assert level() == 5.0  # otf.uncertainty_threshold
    world.ask(200, version, audit=True)
    content = world.settle()
    assert content["level"] == pytest.approx(level())
    assert not content["converged"]  # 30 audits are no proof
    # Against wrong labels every version is wrong, wherever gamma is.
    for seed in range(40):
        world.ask(300 + seed, version, audit=True, shift=1.0)
    assert world.settle()["level"] == LOWEST_LEVEL == level()


def test_without_a_target_or_with_another_one_the_threshold_holds(tmp_path: Path) -> None:
    world = Calibrated(tmp_path, target=0.5)
    version = world.fit()
    for seed in range(35):
        world.ask(100 + seed, version, audit=True, shift=1.0)
    world.settle()
    assert HaltLevel(world.run.calibration, world.otf)() == LOWEST_LEVEL
    for other in (OtfSettings(), OtfSettings(target_force_error=0.4)):
        assert HaltLevel(world.run.calibration, other)() == 5.0


def test_a_damaged_file_is_computed_again_and_does_not_stop_walkers(tmp_path: Path) -> None:
    world = Calibrated(tmp_path)
    version = world.fit()
    world.ask(30, version, audit=True)
    before = world.settle()
    write_json(world.run.calibration, {"version": 3})
    assert HaltLevel(world.run.calibration, world.otf)() == 5.0
    world.calibrator = world.another()
    assert world.settle() == before


def test_the_command_shows_table_json_and_plot(tmp_path: Path) -> None:
    world = Calibrated(tmp_path, target=0.5)
    where = ["otf", "calibration", "-C", str(tmp_path)]
    missing = CliRunner().invoke(cli, where)
    assert missing.exit_code != 0
    version = world.fit()
    for seed in range(60):
        world.ask(100 + seed, version, audit=True)
    world.ask(400, version, audit=False, stretch=3.0)
    world.settle()
    found = read_calibration(world.run.calibration)
    assert found is not None
    assert found.converged
    picture = tmp_path / "calibration.png"
    shown = CliRunner().invoke(cli, [*where, "--json", "--plot", str(picture)])
    assert shown.exit_code == 0, shown.output
    facts = json.loads(shown.stdout)
    errors = [pair["error"] for pair in facts["pairs"] if pair["audit"]]
    assert facts["relation"][-1]["audits"] == len(errors) == 60
    assert facts["relation"][-1]["bound_95"] == pytest.approx(max(errors))  # of 60 draws it is the largest
    assert facts["converged"] is True
    assert picture.stat().st_size > 5000
    again = CliRunner().invoke(cli, [*where, "--plot", str(picture)])
    assert again.exit_code != 0  # never over a file that is there
    told = CliRunner().invoke(cli, where).output
    assert "converged: bound" in told
    assert "v0001" in told
