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
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import QueueSettings
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
    from mlip_autopipec.stages.swap import Decision

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
