"""Audits: drawn at random and reproducibly, labelled, and never seen by a fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from trainer_parts import NOW, World, frame, label, labelled

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.daemons.auditor import Auditor
from mlip_autopipec.daemons.demand import Demand
from mlip_autopipec.daemons.fitjob import FitJob, FitRequest
from mlip_autopipec.daemons.fitter import Fitter
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.daemons.trainer_worker import TrainerWorker
from mlip_autopipec.stages.calibrate import AUDIT
from mlip_autopipec.stages.watch import OtfSettings, WalkerPlan, walker_plans
from mlip_autopipec.store.dataset import Dataset
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import make_result
from mlip_autopipec.store.task import Task
from mlip_autopipec.store.taskfolder import TaskFolder


def plan(**changes: Any) -> WalkerPlan:
    (found,) = walker_plans(OtfSettings())
    return found.model_copy(update=changes)


def audit(world: World, seed: int, atom: int = 4) -> str:
    """Give the label of an audit of one atom; return its id."""
    mask = [int(i == atom) for i in range(9)]
    origin = {"walker": "w00", "step": seed, "version": "v0001", "level": 5.0, "collected": AUDIT}
    task = Task.new(
        frame(seed), mask, world.config.labeller_settings(),
        priority=0.7, origin=origin, config_type=AUDIT, created=NOW,
    )  # fmt: skip
    truth = label(task.atoms())
    # A force that no fit would leave unnoticed.
    world.results.write_once(task.id, make_result(task, replace(truth, forces=truth.forces + 0.3), "test", NOW))
    return task.id


def intake_of(world: World) -> Intake:
    intake = Intake(world.run, world.config.labeller_settings(), force_limit=1e5)
    intake.load()
    intake.take_frames([labelled(s) for s in range(4)])
    intake.take_results()
    return intake


def files_of(world: World, ids: set[str]) -> list[bytes]:
    config = world.config
    job = FitJob(world.run.root, config.training, config.labeller_settings(), config.node, ("Ar",))
    answer = Fitter(job)(FitRequest(tuple(sorted(ids))))
    with np.load(answer.folder / "potential.asi") as archive:
        active = b"".join(archive[key].tobytes() for key in sorted(archive.files))
    names = ("potential.yaml", "potential.yace", "metrics.json", "train_config.yaml")
    return [*((answer.folder / name).read_bytes() for name in names), active]


def test_the_fit_is_bit_identical_with_and_without_audits(tmp_path: Path) -> None:
    contents = []
    for name, audits in (("without", 0), ("with", 5)):
        world = World(tmp_path / name, [])
        for seed in (20, 21):
            world.give(world.task(seed, [1, 1, 0, 1, 0, 1, 1, 1, 0]))
        given = {audit(world, 30 + n, atom=n) for n in range(audits)}
        intake = intake_of(world)
        assert intake.audits == given <= intake.labels
        assert intake.trainable == intake.labels - given
        contents.append(files_of(world, intake.trainable))
    assert contents[0] == contents[1]


def test_a_fit_that_is_asked_to_learn_an_audit_refuses(tmp_path: Path) -> None:
    world = World(tmp_path, [])
    audit(world, 30)
    with pytest.raises(DataError, match="an audit"):
        files_of(world, intake_of(world).labels)


def test_audits_alone_start_no_fit_and_a_new_process_knows_them(tmp_path: Path) -> None:
    world = World(tmp_path, [])
    given = {audit(world, seed) for seed in (30, 31)}
    intake_of(world)
    intake = Intake(world.run, world.config.labeller_settings(), force_limit=1e5)
    intake.load()
    assert intake.audits == given == Dataset(world.run.dataset).ids_of(AUDIT)
    demand = Demand(
        intake, Registry(world.run.potentials), world.config.training, has_given=False, unfinished=lambda: 0
    )
    demand.read_versions()
    assert demand.new() == intake.labels - given


def test_audits_come_at_random_times_of_the_whole_way() -> None:
    auditor = Auditor(plan(steps=10_000, seed=3), OtfSettings(min_audits=20), walkers=1)
    taken: list[int] = []
    for step in range(0, 10_001, 10):
        if auditor.wants(step, len(taken), 0):
            taken.append(step)
    assert len(taken) == 20
    assert [int(step // 500.001) for step in taken] == list(range(20))  # one in each twentieth of the way
    offsets = np.array(taken) % 500
    assert offsets.std() > 80  # at no fixed place of it
    again = Auditor(plan(steps=10_000, seed=3), OtfSettings(min_audits=20), walkers=1)
    assert all(again.wants(step, n, 0) for n, step in enumerate(taken))


def test_a_share_of_the_labels_are_audits() -> None:
    auditor = Auditor(plan(seed=5), OtfSettings(audit_fraction=0.2), walkers=1)
    audits, labels = 0, 0
    for step in range(20_000):
        labels = step // 100
        audits += auditor.wants(step, audits, labels)
    assert audits / (audits + labels) == pytest.approx(0.2, abs=0.02)
    none = Auditor(plan(seed=5), OtfSettings(audit_fraction=0.0), walkers=1)
    assert not any(none.wants(step, 0, 1000) for step in range(2000))


def test_many_walkers_with_few_labels_each_audit_their_share() -> None:
    audits = 0
    for seed in range(1, 401):
        auditor = Auditor(plan(seed=seed), OtfSettings(audit_fraction=0.05), walkers=400)
        audits += any(auditor.wants(step, 0, 5) for step in range(200))
    assert audits / (audits + 5 * 400) == pytest.approx(0.05, abs=0.01)


def test_a_target_asks_for_as_many_audits_as_convergence_takes() -> None:
    auditor = Auditor(plan(steps=1000), OtfSettings(target_force_error=0.1, audit_fraction=0.0), walkers=4)
    audits = 0
    for step in range(1001):
        audits += auditor.wants(step, audits, 0)
    assert audits == 15  # of four walkers: 60


@pytest.mark.parametrize(("target", "expected"), [(0.1, 30), (None, 2)])
def test_with_a_target_the_first_audits_come_with_the_first_labels(target: float | None, expected: int) -> None:
    """The level is calibrated after some 60 labels, however few of its steps the run has made by then."""
    auditor = Auditor(plan(steps=10_000_000, seed=4), OtfSettings(target_force_error=target), walkers=1)
    audits, labels, step = 0, 0, 0
    while audits + labels < 62:
        step += 100
        labels += step % 300 == 0
        took = auditor.wants(step, audits, labels)
        assert took == auditor.wants(step, audits, labels)
        audits += took
        assert audits <= max(labels, 1)
    assert audits == pytest.approx(expected, abs=2)
    while labels < 200:
        step += 100
        labels += step % 300 == 0
        audits += auditor.wants(step, audits, labels)
    assert audits < 35  # from then on the share of the labels, and of the steps


def test_the_atom_is_any_below_the_level_and_the_same_at_each_look() -> None:
    auditor = Auditor(plan(seed=2), OtfSettings(), walkers=1)
    gamma = np.r_[np.full(20, 0.5), np.full(5, 9.0)]
    drawn = [auditor.atom(step, 0, gamma, 5.0) for step in range(400)]
    assert drawn == [auditor.atom(step, 0, gamma, 5.0) for step in range(400)]
    counts = np.bincount(drawn, minlength=25)  # type: ignore[arg-type]
    assert counts[20:].sum() == 0
    assert counts[:20].min() > 5
    assert auditor.atom(0, 0, np.full(3, 9.0), 5.0) is None


def test_a_fit_does_not_wait_for_audits(tmp_path: Path) -> None:
    world = World(tmp_path, [])
    trainer = TrainerWorker(world.run, world.config)
    audits = TaskFolder(world.run.walker("w00") / "audits")
    tasks = [world.task(seed) for seed in range(3)]
    for task in tasks:
        world.queue.publish(task)
    audits.add(tasks[0])
    assert trainer._unfinished() == 2
    audits.add(tasks[1])
    audits.add(tasks[2])
    assert trainer._unfinished() == 0
    world.queue.hold(tasks[0].id)  # is under way no more, audit or not
    assert trainer._unfinished() == 0
