"""A walker's question survives a kill between any two writes, and ends with a record of how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.core.events import EventLog, read_events
from mlip_autopipec.core.files import read_json
from mlip_autopipec.core.interfaces import Evaluation, Neighbourhood
from mlip_autopipec.daemons.healing import Healing
from mlip_autopipec.daemons.queues import dft_queue
from mlip_autopipec.stages.carve import EmbeddingSettings
from mlip_autopipec.stages.swap import Decision
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import QueueSettings
from mlip_autopipec.store.task import Task
from small_potentials import LennardJones

# Its gamma is far below the threshold at every distance that occurs here.
EVALUATOR = LennardJones(("Al",), sigma=2.6, epsilon=0.01, cutoff=5.0)


class Doubtful(LennardJones):
    """Lennard-Jones for which atom 77 of the halted frame, and the first atom of any other structure, is unknown."""

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        result = super().evaluate(frame, gamma=gamma)
        if result.gamma is not None:
            result.gamma[:] = 9.0
            result.gamma[77 if len(result.gamma) == 256 else 0] = 9.5
        return result


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    run.create()
    (run.walker("w00") / "excursions").mkdir(parents=True)
    return run


def healing(run: RunDirectory, **embedding: object) -> Healing:
    settings = {"cutoff": 3.0, "buffer_size": 2.0, "whole_cell_fraction": 0.0, **embedding}
    return Healing(
        run.walker("w00"),
        "w00",
        embedding=EmbeddingSettings(**settings),
        threshold=5.0,
        labeller={"engine": "teacher", "model": "emt"},
        queue=dft_queue(run, QueueSettings(), worker="w00"),
        registry=Registry(run.potentials),
        events=EventLog(run.events, "w00"),
        refused=set,
    )


def halted_frame() -> Atoms:
    atoms = bulk("Al", cubic=True) * (4, 4, 4)
    atoms.rattle(0.1, seed=1)
    gamma = np.full(len(atoms), 0.5)
    gamma[77] = 12.5
    atoms.arrays["gamma"] = gamma
    return atoms


def test_a_halt_publishes_the_region_of_the_most_uncertain_atom(run: RunDirectory) -> None:
    desk = healing(run)
    halt = desk.open(halted_frame(), 40, "v0001", EVALUATOR)
    assert (halt.gamma, halt.atom, halt.number) == (12.5, 77, 1)
    (task_id,) = halt.task_ids
    assert desk.queue.state(task_id) == "pending"
    (state, found, priority, path) = next(iter(desk.queue.ls("pending")))
    assert (state, found, priority) == ("pending", task_id, 12.5)
    task = read_json(path)
    assert task["origin"]["walker"] == "w00"
    assert task["origin"]["step"] == 40
    assert task["config_type"] == "active_learning"
    assert 0 < sum(task["force_mask"]) < len(task["force_mask"])
    assert [e["event"] for e in read_events(run.events / "w00.jsonl")] == ["gamma_exceeded", "task_published"]


def test_a_kill_before_the_publication_is_mended(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = healing(run)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(desk.queue, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        desk.open(halted_frame(), 40, "v0001", EVALUATOR)
    again = healing(run)
    assert again.halt is not None
    (task_id,) = again.halt.task_ids
    assert again.queue.state(task_id) is None
    again.republish(EVALUATOR)
    assert again.queue.state(task_id) == "pending"
    again.republish(EVALUATOR)
    assert again.queue.counts()["pending"] == 1


def test_an_ended_halt_is_filed_with_its_outcome(run: RunDirectory) -> None:
    desk = healing(run)
    desk.open(halted_frame(), 40, "v0001", EVALUATOR)
    desk.end(Decision("swap", "v0002 knows it", 1.0), "v0002")
    filed = read_json(run.walker("w00") / "halts" / "0001.json")
    assert filed["ended"] == {"action": "swap", "reason": "v0002 knows it", "version": "v0002", "gamma": 1.0}
    assert healing(run).halt is None
    assert desk.open(halted_frame(), 90, "v0002", EVALUATOR).number == 2


@pytest.mark.parametrize("pinned", [True, False])
def test_after_a_rollback_nothing_newer_is_waited_for(run: RunDirectory, pinned: bool) -> None:
    """Its label is in v0002, but the user went back to v0001: no version will come for its sake."""
    desk = healing(run)
    halt = desk.open(halted_frame(), 40, "v0001", EVALUATOR)
    registry = desk.registry
    for contained in ([], halt.task_ids):
        work = registry.new_work_folder()
        for name in FILES:
            (work / name).write_text("{}")
        registry.publish(work, {"task_ids": contained})
        if not contained:
            assert desk.look("v0001", EVALUATOR, reseeds_in_a_row=0, reseed_limit=3).action == "wait"
    registry.set_current("v0001", pinned=pinned)
    decision = desk.look("v0001", EVALUATOR, reseeds_in_a_row=0, reseed_limit=3)
    assert decision.action == "reseed"
    assert decision.reason == "v0002 has its labels, but v0001 is current and its gamma is still above"


def test_a_version_that_is_gone_and_a_damaged_current_are_waited_out(run: RunDirectory) -> None:
    desk = healing(run)
    desk.open(halted_frame(), 40, "v0001", EVALUATOR)
    (run.potentials / "current.json").write_text("{")
    assert desk.look("v0001", EVALUATOR, reseeds_in_a_row=0, reseed_limit=3).action == "wait"


def label_comes(desk: Healing) -> str:
    """Publish a version that holds all labels of the open halt, after the one that halted; return its name."""
    assert desk.halt is not None
    for task_ids in [[], desk.halt.task_ids] if not desk.registry.versions() else [desk.halt.task_ids]:
        work = desk.registry.new_work_folder()
        for name in FILES:
            (work / name).write_text("{}")
        version = desk.registry.publish(work, {"task_ids": task_ids})
    return version


def task_of(desk: Healing, task_id: str) -> Task:
    return next(Task.read(path) for _, found, _, path in desk.queue.ls("pending") if found == task_id)


def test_the_choice_is_stored_with_the_task(run: RunDirectory) -> None:
    desk = healing(run)
    halt = desk.open(halted_frame(), 40, "v0001", EVALUATOR)
    (carve,) = halt.carves
    told = task_of(desk, halt.task_ids[0]).origin["embedding"]
    assert (carve["atom"], carve["atoms"]) == (77, told["atoms"])
    assert told["mode"] == "dodecahedron"
    assert told["force_error"] <= 0.07
    assert 0.9 <= told["gamma_ratio"] <= 1.1
    assert told["buffer_size"] >= 2.0


def test_what_a_label_did_not_heal_gets_a_larger_cell(run: RunDirectory) -> None:
    doubtful = Doubtful(("Al",), sigma=2.6, epsilon=0.01, cutoff=5.0)
    desk = healing(run, max_core_force_error=None)
    desk.open(halted_frame(), 40, "v0001", doubtful)
    for number in (2, 3):
        decision = desk.look(label_comes(desk), doubtful, reseeds_in_a_row=0, reseed_limit=3)
        assert decision.action == "wait"
        assert desk.halt is not None
        assert desk.halt.task_ids[-1] in decision.reason
        assert len(set(desk.halt.task_ids)) == number
    sizes = [carve["atoms"] for carve in desk.halt.carves]
    assert sizes == sorted(set(sizes))
    assert [carve["atom"] for carve in desk.halt.carves] == [77] * 3
    assert desk.queue.counts()["pending"] == 3
    # Three cells of one frame are enough: the walker goes on elsewhere.
    assert desk.look(label_comes(desk), doubtful, reseeds_in_a_row=0, reseed_limit=3).action == "reseed"
    told = [e["event"] for e in read_events(run.events / "w00.jsonl")]
    assert told == ["gamma_exceeded", "task_published", *["heal_failed", "gamma_exceeded", "task_published"] * 2]
    failed = next(e for e in read_events(run.events / "w00.jsonl") if e["event"] == "heal_failed")
    assert (failed["gamma"], failed["version"], failed["task_ids"]) == (9.5, "v0002", desk.halt.task_ids[:1])


def test_a_kill_before_the_halt_names_its_larger_cell_changes_nothing(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    doubtful = Doubtful(("Al",), sigma=2.6, epsilon=0.01, cutoff=5.0)
    desk = healing(run, max_core_force_error=None)
    desk.open(halted_frame(), 40, "v0001", doubtful)
    version = label_comes(desk)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(desk.halts, "open", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.look(version, doubtful, reseeds_in_a_row=0, reseed_limit=3)
    again = healing(run, max_core_force_error=None)
    again.republish(doubtful)
    assert again.look(version, doubtful, reseeds_in_a_row=0, reseed_limit=3).action == "wait"
    assert again.halt is not None
    assert len(again.halt.task_ids) == 2
    assert again.queue.counts()["pending"] == 2
    told = [e["event"] for e in read_events(run.events / "w00.jsonl")]
    assert told == ["gamma_exceeded", "task_published", "heal_failed", "gamma_exceeded", "task_published"]


def test_a_carve_whose_label_is_known_is_never_made_again(run: RunDirectory) -> None:
    desk = healing(run)
    first = desk.open(halted_frame(), 40, "v0001", EVALUATOR)
    version = label_comes(desk)
    desk.end(Decision("reseed", "for the test", 9.0), version)
    second = desk.open(halted_frame(), 40, version, EVALUATOR)
    assert second.task_ids != first.task_ids
    assert second.carves[0]["atoms"] > first.carves[0]["atoms"]


def test_without_a_faithful_cell_nothing_is_sent_and_the_walker_is_told(run: RunDirectory) -> None:
    desk = healing(run, max_atoms=12)
    halt = desk.open(halted_frame(), 40, "v0001", EVALUATOR)
    assert halt.task_ids == []
    assert "embedding.max_atoms 12" in halt.refusal
    assert desk.queue.counts()["pending"] == 0
    again = healing(run, max_atoms=12)
    again.republish(EVALUATOR)
    decision = again.look("v0001", EVALUATOR, reseeds_in_a_row=0, reseed_limit=3)
    assert (decision.action, decision.reason) == ("reseed", halt.refusal)
    assert [e["event"] for e in read_events(run.events / "w00.jsonl")] == ["gamma_exceeded", "carve_refused"]


def test_a_first_halt_brings_a_whole_cell_too(run: RunDirectory) -> None:
    desk = healing(run, whole_cell_fraction=0.1)
    halt = desk.open(halted_frame(), 40, "v0001", EVALUATOR)
    whole = [Task.read(path) for _, found, _, path in desk.queue.ls("pending") if found not in halt.task_ids]
    assert len(whole) == 1
    assert whole[0].config_type == "whole_cell"
    assert whole[0].force_mask == [1] * 32
    told = whole[0].origin.pop("settled")
    assert told["after"] <= 0 or told["after"] < told["before"]
    assert whole[0].origin == {"source": "whole_cell", "of": "w00", "step": 40, "version": "v0001"}
    # The halt waits for its own label only.
    assert whole[0].id not in halt.task_ids


def test_a_kill_before_the_whole_cell_is_mended(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = healing(run, whole_cell_fraction=0.1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(desk.queue, "publish", killed)
    with pytest.raises(KeyboardInterrupt):
        desk.open(halted_frame(), 40, "v0001", EVALUATOR)
    again = healing(run, whole_cell_fraction=0.1)
    again.republish(EVALUATOR)
    assert again.queue.counts()["pending"] == 2


def test_what_somebody_removed_is_not_waited_for_and_the_first_cell_is_not_cut_again(run: RunDirectory) -> None:
    doubtful = Doubtful(("Al",), sigma=2.6, epsilon=0.01, cutoff=5.0)
    desk = healing(run, max_core_force_error=None)
    first = desk.open(halted_frame(), 40, "v0001", doubtful).task_ids[0]
    version = label_comes(desk)
    desk.look(version, doubtful, reseeds_in_a_row=0, reseed_limit=3)
    assert desk.halt is not None
    first, larger = desk.halt.task_ids
    next(path for _, found, _, path in desk.queue.ls("pending") if found == larger).unlink()
    # Another cell would be cut now; but the first one has its task.
    again = healing(run, max_core_force_error=None, buffer_size=3.0)
    again.republish(doubtful)
    assert again.halt is not None
    assert again.halt.task_ids == [first]
    assert len(again.halt.carves) == 1
    assert again.queue.counts()["pending"] == 1
