"""The trainer: when it fits, what it publishes, what it refuses, and what a kill leaves."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import trainer_parts
from trainer_parts import World, frame, labelled

from mlip_autopipec.ace.formats.asi import read_asi
from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.core.events import read_events
from mlip_autopipec.core.files import read_json
from mlip_autopipec.daemons import retries
from mlip_autopipec.daemons.fitjob import FitAnswer, FitJob, FitRequest
from mlip_autopipec.daemons.fitter import Fitter
from mlip_autopipec.daemons.trainer_worker import REVIVE_TRAINER, TrainerWorker, _Running
from mlip_autopipec.runtime.child import Result
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.dataset import Dataset
from mlip_autopipec.store.references import reference_energies
from mlip_autopipec.store.refusals import read_refusals
from mlip_autopipec.store.registry import Registry, folder_hash
from mlip_autopipec.store.results import make_result


@contextlib.contextmanager
def trainer(world: World) -> Iterator[TrainerWorker]:
    worker = TrainerWorker(world.run, world.config)
    try:
        worker.start()
        yield worker
    finally:
        worker.close()


def steps_until(worker: TrainerWorker, condition: Callable[[], Any], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"never came: {worker.status()}")
        worker.step(time.monotonic())
        time.sleep(0.01)


def steps_for(worker: TrainerWorker, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        worker.step(time.monotonic())
        time.sleep(0.01)


def versions(world: World) -> list[str]:
    return Registry(world.run.potentials).versions()


def test_labelled_start_structures_make_the_first_version(tmp_path):
    world = World(tmp_path, [labelled(s) for s in range(6)])
    with trainer(world) as worker:
        steps_until(worker, lambda: versions(world))
        state, detail = worker.status()
    assert (state, detail["labels"], detail["uningested"], detail["version"]) == ("idle", 6, 0, "v0001")
    registry = Registry(world.run.potentials)
    manifest = registry.manifest("v0001")
    assert registry.current().version == "v0001"
    assert set(manifest["task_ids"]) == set(manifest["new_task_ids"]) == Dataset(world.run.dataset).ingested()
    assert manifest["parent"] is None
    metrics = read_json(registry.path("v0001") / "metrics.json")
    assert metrics["structures"] == 6
    assert 0 < metrics["force_rmse"] < 0.02
    assert metrics["groups"]["bootstrap"]["learned_atoms"] == 54
    assert reference_energies(registry) == {"Ar": 0.0}
    events = read_events(world.run.events / "trainer-worker.jsonl")
    assert [e["event"] for e in events] == ["train_started", "version_published"]
    for event in events:
        assert event["version"] == "v0001"
        assert set(event["task_ids"]) == set(manifest["task_ids"])


def test_a_new_label_is_in_the_next_version_at_once_when_no_task_is_open(tmp_path):
    world = World(tmp_path, [labelled(s) for s in range(6)])
    with trainer(world) as worker:
        steps_until(worker, lambda: versions(world))
        new = world.give(world.task(10, [1, 1, 1, 0, 0, 0, 1, 1, 1]))
        steps_until(worker, lambda: len(versions(world)) == 2)
    manifest = Registry(world.run.potentials).manifest("v0002")
    assert manifest["new_task_ids"] == [new]
    assert (manifest["parent"], len(manifest["task_ids"])) == ("v0001", 7)
    assert read_events(world.run.events / "trainer-worker.jsonl")[-1]["task_ids"] == [new]
    row = next(r for r in Dataset(world.run.dataset).rows() if r.task_id == new)
    assert (row.uncertainty_gamma, row.config_type) == (7.5, "active_learning")
    assert row.origin == {"walker": "w00", "step": 10, "version": "v0001"}
    assert row.force_mask == (1, 1, 1, 0, 0, 0, 1, 1, 1)


def test_another_baseline_after_a_restart_is_a_fit_of_the_same_labels_and_one_only(tmp_path, caplog):
    world = World(tmp_path, [labelled(s) for s in range(6)])
    with trainer(world) as worker:
        steps_until(worker, lambda: versions(world))
    changed = world.config.training.model_copy(update={"baseline": "lj"})
    world.config = world.config.model_copy(update={"training": changed})
    with trainer(world) as worker:
        steps_until(worker, lambda: len(versions(world)) == 2)
        steps_for(worker, 0.5)
    assert versions(world) == ["v0001", "v0002"]
    first, second = (Registry(world.run.potentials).manifest(version) for version in versions(world))
    assert second["task_ids"] == first["task_ids"]
    assert (second["new_task_ids"], second["parent"]) == ([], "v0001")
    assert (second["baseline"]["kind"], second["baseline"]["form"]) == ("lj", "overlay")
    assert "v0001 was fitted with baseline none, training.baseline is lj (overlay): fitted anew" in caplog.text


def test_it_waits_for_open_tasks_unless_enough_labels_have_come(tmp_path):
    world = World(tmp_path, [labelled(s) for s in range(6)])
    with trainer(world) as worker:
        steps_until(worker, lambda: versions(world))
        world.queue.publish(world.task(20))
        world.give(world.task(10))
        world.give(world.task(11))
        steps_for(worker, 2.0)
        assert versions(world) == ["v0001"]
        assert worker.status()[1]["waiting_for"] == "2 of 3 new labels, 1 tasks under way"
        assert worker.status()[1]["uningested"] == 2
        world.give(world.task(12))
        steps_until(worker, lambda: len(versions(world)) == 2)
    assert len(Registry(world.run.potentials).manifest("v0002")["new_task_ids"]) == 3


@pytest.mark.parametrize(("labels", "state"), [(3, "idle"), (1, "failing")])
def test_a_bootstrap_with_too_few_labels(tmp_path, monkeypatch, labels, state):
    monkeypatch.setattr("mlip_autopipec.daemons.demand._SETTLE_S", 1.0)
    world = World(tmp_path, [labelled(s) for s in range(labels)])
    with trainer(world) as worker:
        steps_until(worker, lambda: versions(world) or worker.status()[0] == "failing")
        assert worker.status()[0] == state
        if state == "failing":
            assert "4 are needed" in worker.status()[1]["error"]
            world.give(world.task(10))
            steps_until(worker, lambda: versions(world))
            assert worker.status()[0] == "idle"


def test_a_failed_fit_says_so_and_new_labels_start_the_next_try(tmp_path):
    world = World(tmp_path, [labelled(s) for s in range(6)], reference_energies={"Al": 0.0})
    with trainer(world) as worker:
        steps_until(worker, lambda: worker.status()[0] == "failing")
        assert "reference_energies" in worker.status()[1]["error"]
        started = len(read_events(world.run.events / "trainer-worker.jsonl"))
        steps_for(worker, 1.5)
        assert len(read_events(world.run.events / "trainer-worker.jsonl")) == started
        world.give(world.task(10))
        steps_until(worker, lambda: len(read_events(world.run.events / "trainer-worker.jsonl")) == started + 1)
    assert versions(world) == []
    assert not list(world.run.potentials.glob(".work-*"))


def test_a_killed_fit_is_begun_again(tmp_path):
    world = World(tmp_path, [labelled(s) for s in range(6)])
    with trainer(world) as worker:
        steps_until(worker, lambda: worker.status()[0] == "training")
        os.kill(worker._child.pid, signal.SIGKILL)
        steps_until(worker, lambda: versions(world))
    assert versions(world) == ["v0001"]


@pytest.fixture
def begun(tmp_path):
    """A run that has its first version."""
    world = World(tmp_path, [labelled(s) for s in range(6)])
    with trainer(world) as worker:
        steps_until(worker, lambda: versions(world))
    return world


def test_labels_with_which_no_fit_succeeds_are_left_out_until_the_next_start(begun):
    task = begun.give(begun.task(10))
    good = begun.config
    hopeless = good.training.model_copy(update={"reference_energies": {"Al": 0.0}})
    begun.config = good.model_copy(update={"training": hopeless})
    with trainer(begun) as worker:
        steps_until(worker, lambda: worker.status()[0] == "failing")
        assert worker.status()[1]["uningested"] == 1  # another try will come
        steps_until(worker, lambda: task in read_refusals(begun.run))
        state, detail = worker.status()
        assert (state, detail["uningested"], detail["refused"]) == ("failing", 0, 1)
        assert "1 new label(s) were left out" in detail["error"]
        started = [e for e in read_events(begun.run.events / "trainer-worker.jsonl") if e["event"] == "train_started"]
        assert len(started) == 1 + 3
        steps_for(worker, 1.5)
        assert worker.status()[0] == "failing"
    assert "reference_energies" in read_refusals(begun.run)[task]
    begun.config = good
    with trainer(begun) as worker:
        steps_until(worker, lambda: len(versions(begun)) == 2)
        assert worker.status()[1]["refused"] == 0
    assert Registry(begun.run.potentials).manifest("v0002")["new_task_ids"] == [task]


def test_a_label_whose_fit_was_killed_is_still_to_be_taken_in(begun):
    with trainer(begun) as worker:
        begun.give(begun.task(10))
        steps_until(worker, lambda: worker.status()[0] == "training")
        os.kill(worker._child.pid, signal.SIGKILL)
        steps_until(worker, lambda: worker.status()[0] == "failing")
        assert worker.status()[1]["uningested"] == 1
        steps_until(worker, lambda: len(versions(begun)) == 2)
        assert worker.status()[1]["uningested"] == 0


def test_a_waiting_trainer_looks_at_no_finished_task(tmp_path, monkeypatch):
    monkeypatch.delattr("mlip_autopipec.store.queue.TaskQueue.counts")
    world = World(tmp_path, [labelled(0)])
    world.queue.publish(world.task(20))
    with trainer(world) as worker:
        steps_until(worker, lambda: "1 tasks under way" in worker.status()[1]["waiting_for"])


def test_a_given_potential_is_the_first_version_and_its_functions_stay(tmp_path, begun):
    made = Registry(begun.run.potentials).path("v0001")
    files = {"potential": str(made / "potential.yaml"), "active_set": str(made / "potential.asi")}
    world = World(tmp_path / "next", [frame(1), frame(2)], start_section=files, nradmax_by_orders=[3, 1])
    with trainer(world) as worker:
        steps_until(worker, lambda: versions(world))
        assert Registry(world.run.potentials).manifest("v0001")["task_ids"] == []
        for seed in range(3):
            world.give(world.task(seed))
        steps_until(worker, lambda: len(versions(world)) == 2)
    texts = [(Registry(world.run.potentials).path(v) / "potential.yaml").read_text() for v in versions(world)]
    assert len({text.count("nr: ") for text in texts}) == 1


def events_of(world: World, name: str) -> list[dict[str, Any]]:
    return [e for e in read_events(world.run.events / "trainer-worker.jsonl") if e["event"] == name]


@pytest.mark.parametrize("how", ["removed", "emptied"])
def test_a_database_that_is_lost_under_a_running_trainer_comes_back_before_the_next_version(begun, how):
    held = set(Registry(begun.run.potentials).manifest("v0001")["task_ids"])
    with trainer(begun) as worker:
        steps_until(worker, lambda: worker.status()[0] == "idle")
        begun.run.dataset.unlink() if how == "removed" else begun.run.dataset.write_bytes(b"")
        new = begun.give(begun.task(10))
        steps_until(worker, lambda: len(versions(begun)) == 2)
    assert set(Registry(begun.run.potentials).manifest("v0002")["task_ids"]) == {*held, new}
    (event,) = events_of(begun, "dataset_rebuilt")
    assert event["labels"] == 7
    assert (begun.run.root / "dataset.db.damaged-1").exists() == (how == "emptied")


def test_no_version_comes_from_fewer_labels_than_the_last_one_had(begun):
    new = [begun.give(begun.task(10 + i)) for i in range(3)]
    with trainer(begun) as worker:
        steps_until(worker, lambda: len(versions(begun)) == 2)
        kept = begun.results.path(new[0]).read_bytes()
        begun.results.path(new[0]).unlink()
        begun.run.dataset.unlink()
        begun.give(begun.task(20))
        steps_for(worker, 2)
        assert versions(begun) == ["v0001", "v0002"]
        state, detail = worker.status()
        assert state == "failing"
        assert new[0] in detail["error"]
        begun.results.path(new[0]).write_bytes(kept)
        steps_until(worker, lambda: len(versions(begun)) == 3)
        assert worker.status()[0] == "idle"
    assert len(Registry(begun.run.potentials).manifest("v0003")["task_ids"]) == 6 + 3 + 1


def test_a_fit_that_saw_fewer_labels_than_it_was_given_is_not_published(begun):
    begun.give(begun.task(10))
    with trainer(begun) as worker:
        steps_until(worker, lambda: worker.status()[0] == "training")
        worker._fit = replace(worker._fit, task_ids=(*worker._fit.task_ids, "another"))
        steps_until(worker, lambda: worker.status()[0] == "failing")
        assert "1 label(s) left the dataset" in worker.status()[1]["error"]
        assert versions(begun) == ["v0001"]
        steps_until(worker, lambda: len(versions(begun)) == 2)
    assert not list(begun.run.potentials.glob(".work-*"))


def test_a_damaged_version_is_fitted_again_and_a_damaged_pin_asks_a_person(begun):
    registry = Registry(begun.run.potentials)
    new = begun.give(begun.task(10))
    with trainer(begun) as worker:
        steps_until(worker, lambda: len(versions(begun)) == 2)
        shutil.rmtree(registry.path("v0002"))
        steps_until(worker, lambda: len(events_of(begun, "version_published")) == 3)
        assert registry.current().version == "v0002"
        assert registry.manifest("v0002")["new_task_ids"] == [new]
        (event,) = events_of(begun, "current_repaired")
        assert event["version"] == "v0001"
        pin = json.dumps({"version": "v0007", "sha256": "", "pinned": True})
        registry.current_file.write_text(pin)
        steps_until(worker, lambda: worker.status()[0] == "failing")
        assert "v0007, which does not exist" in worker.status()[1]["error"]
        assert registry.current_file.read_text() == pin
        registry.current_file.unlink()
        steps_until(worker, lambda: worker.status()[0] == "idle")
        assert registry.current().version == "v0002"


def test_a_fit_that_always_dies_is_given_up_until_something_changes(begun, monkeypatch):
    monkeypatch.setattr(retries, "_FIRST_S", 0.01)
    begun.give(begun.task(10))
    with trainer(begun) as worker:

        def kill() -> bool:
            if worker.status()[0] == "training":
                os.kill(worker._child.pid, signal.SIGKILL)
            return "nothing more is tried" in worker.status()[1].get("error", "")

        steps_until(worker, kill, 120)
        begun_fits = len(events_of(begun, "train_started"))
        assert begun_fits == 1 + 6
        steps_for(worker, 1.5)
        assert worker.status()[0] == "failing"
        assert "otf revive" in worker.status()[1]["waiting_for"]
        assert len(events_of(begun, "train_started")) == begun_fits
        Control(begun.run.control).ask(REVIVE_TRAINER)
        steps_until(worker, lambda: len(versions(begun)) == 2)
        assert worker.status()[0] == "idle"
        assert not Control(begun.run.control).wants(REVIVE_TRAINER)


def test_draining_finishes_the_fit_and_leaves_no_process(tmp_path):
    world = World(tmp_path, [labelled(s) for s in range(6)])
    with trainer(world) as worker:
        steps_until(worker, lambda: worker.status()[0] == "training")
        worker.drain()
        child = worker._child
        deadline = time.monotonic() + 30
        while worker.step(time.monotonic()) is not Outcome.DONE and time.monotonic() < deadline:
            time.sleep(0.01)
    assert versions(world) == ["v0001"]
    assert not child.alive()


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_at_random_moments_lose_and_double_nothing(tmp_path, kills):
    world = World(tmp_path, [labelled(s) for s in range(4)])
    random.seed(3)
    given = []
    for round_ in range(kills):
        given.append(world.give(world.task(100 + round_)))
        with (tmp_path / "log").open("ab") as log:
            process = subprocess.Popen([sys.executable, trainer_parts.__file__, str(tmp_path)], stderr=log)
        time.sleep(random.uniform(0.8, 2.5) if kills < 10 else random.uniform(0.3, 8.0))
        process.kill()
        process.wait()
        registry = Registry(world.run.potentials)
        current = registry.current()
        if current is not None:
            assert folder_hash(registry.path(current.version)) == current.sha256
    last = world.give(world.task(200))
    with trainer(world) as worker:
        steps_until(worker, lambda: worker.status()[1]["version"] and worker.status()[1]["uningested"] == 0)
    rows = [row.task_id for row in Dataset(world.run.dataset).rows()]
    assert len(rows) == len(set(rows)) == 4 + kills + 1
    registry = Registry(world.run.potentials)
    newest = registry.versions()[-1]
    assert registry.current().version == newest
    assert {*given, last} <= set(registry.manifest(newest)["task_ids"])
    for older, newer in zip(registry.versions()[:-1], registry.versions()[1:], strict=True):
        assert registry.manifest(newer)["parent"] == older
    assert not list(world.run.potentials.glob(".work-*"))
    # One that was never interrupted says the same, to the last bit.
    manifest = registry.manifest(newest)
    job = FitJob(tmp_path, world.config.training, world.config.labeller_settings(), world.config.node, ("Ar",))
    again = Fitter(job)(FitRequest(tuple(manifest["task_ids"]), parent=manifest["parent"])).folder
    for name in ("potential.yaml", "potential.yace"):
        assert (again / name).read_bytes() == (registry.path(newest) / name).read_bytes()
    sets = [read_asi(folder / "potential.asi")["Ar"] for folder in (again, registry.path(newest))]
    assert sets[0].tobytes() == sets[1].tobytes()


def test_a_trainer_of_another_host_is_waited_for(tmp_path):
    world = World(tmp_path, [labelled(s) for s in range(6)])
    lease = world.run.potentials / ".trainer.lease"
    lease.write_text(json.dumps({"host": "elsewhere", "pid": 1, "start": "b-1-2", "counter": 7}))
    late = trainer_parts.in_office(world.run)
    try:
        late.start()
        assert late.step(time.monotonic()) is Outcome.IDLE
        state, detail = late.status()
        assert (state, "uningested" in detail) == ("waiting", False)
        assert "process 1 on elsewhere" in detail["waiting_for"]
        assert not world.run.dataset.exists()
        lease.unlink()
        steps_until(late, lambda: late.status()[1].get("version"))
        # It is taken for dead, and somebody else works now.
        lease.rename(lease.with_name("aside"))
        late._office._beaten = float("-inf")
        with pytest.raises(QueueError, match="taken over"):
            late.step(time.monotonic())
    finally:
        late.close()
    assert late.inner._child is None


def test_a_poisoned_label_leaves_walkers_on_their_version(tmp_path):
    world = World(tmp_path, [labelled(s) for s in range(12)])
    with trainer(world) as worker:
        steps_until(worker, lambda: versions(world))
        task = world.task(50)
        truth = trainer_parts.label(task.atoms())
        wrong = replace(truth, forces=truth.forces * 25.7)
        world.results.write_once(task.id, make_result(task, wrong, "test", trainer_parts.NOW))
        steps_until(worker, lambda: worker.status()[1]["refused"])
        steps_for(worker, 1.0)
        state, detail = worker.status()
        assert (state, detail["uningested"], detail["version"]) == ("idle", 0, "v0001")
        assert "wrong units" in read_refusals(world.run)[task.id]
        assert versions(world) == ["v0001"]
        assert not list(world.run.potentials.glob(".work-*"))
        world.give(world.task(51))
        steps_until(worker, lambda: len(versions(world)) == 2)


def test_a_rollback_is_followed_and_stays(begun):
    registry = Registry(begun.run.potentials)
    with trainer(begun) as worker:
        begun.give(begun.task(10))
        steps_until(worker, lambda: registry.current().version == "v0002")
        Control(begun.run.control).ask("pin-v0001")
        steps_until(worker, lambda: registry.current().version == "v0001")
        assert not Control(begun.run.control).wants("pin-v0001")
        begun.give(begun.task(11))
        steps_until(worker, lambda: len(versions(begun)) == 3)
        current = registry.current()
        assert (current.version, current.pinned, current.newest) == ("v0001", True, "v0003")
        # Judged beside the version that walkers use.
        assert read_json(registry.path("v0003") / "gate.json")["against"] == "v0001"


def test_a_last_fit_that_lost_labels_is_given_up_and_refuses_none(tmp_path):
    world = World(tmp_path, [], final="pacemaker")
    worker = TrainerWorker(world.run, world.config)
    fit = _Running("v0002", "v0001", ("a", "b"), (), 0.0, is_final=True)
    worker._finish(fit, Result(value=FitAnswer(tmp_path / "work", {"task_ids": ["a"]})), 0.0)
    assert worker.status()[1]["error"].startswith("training.final: 1 label(s) left the dataset")
    assert read_refusals(world.run) == {}


def test_no_last_fit_while_labels_are_lost(tmp_path, monkeypatch):
    world = World(tmp_path, [], final="pacemaker")
    worker = TrainerWorker(world.run, world.config)
    asked = []
    monkeypatch.setattr(worker._final, "is_due", lambda *_: asked.append(1))
    monkeypatch.setattr(worker._demand, "lost", lambda: "3 label(s)")
    worker.step(0.0)
    assert not asked
    monkeypatch.setattr(worker._demand, "lost", lambda: "")
    worker.step(9.0)
    assert asked
