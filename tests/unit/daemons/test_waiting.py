"""What a walker does while it waits: the rules alone, and a walker in real LAMMPS that follows them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_walker import THRESHOLD, Killed, Scaled, World, learns_at_once, never_learns

from mlip_autopipec.core.interfaces import Evaluation, Neighbourhood
from mlip_autopipec.daemons.waiting import pastime, unless_refused_too_often
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.carve import NoFaithfulCell
from mlip_autopipec.stages.swap import Decision
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.halts import Halt
from mlip_autopipec.store.walkerstate import WalkerState, read_state
from small_potentials import LennardJones


def halt(**changes: Any) -> Halt:
    made = Halt(1, "w00", step=70, gamma=9.0, atom=0, version="v0001", frame={}, task_ids=["a" * 20])
    return replace(made, **changes)


STATE = WalkerState("w00", snapshot="snapshots/0000000050-1.restart", snapshot_step=50)
ELSEWHERE = OtfSettings(while_waiting="continue_other_region", max_open_halts=3)


def test_the_settings_decide_what_a_waiting_walker_does() -> None:
    assert pastime(OtfSettings(), halt(), STATE, 0) == "park"
    assert pastime(OtfSettings(while_waiting="finish"), halt(), STATE, 0) == "finish"
    assert pastime(ELSEWHERE, halt(), STATE, 0) == "go_elsewhere"


@pytest.mark.parametrize(
    ("opened", "state", "aside"),
    [
        (halt(), STATE, 2),  # three would wait at once
        (halt(step=50), STATE, 0),  # the snapshot itself is above the threshold: new velocities change nothing
        (halt(task_ids=[], refusal="no cell"), STATE, 0),  # nothing is asked, so nothing would be waited for
        (halt(), replace(STATE, reseeds=2), 0),  # the last chance is not spent while a label may help
    ],
)
def test_a_walker_parks_where_going_elsewhere_would_not_help(opened: Halt, state: WalkerState, aside: int) -> None:
    assert pastime(ELSEWHERE, opened, state, aside) == "park"


def test_only_halts_without_a_cell_count_as_refused() -> None:
    reseed, refused = Decision("reseed", "no cell is faithful"), halt(task_ids=[], refusal="no cell is faithful")
    assert unless_refused_too_often(reseed, refused, 0, 2) is reseed
    assert unless_refused_too_often(reseed, halt(), 7, 2) is reseed
    assert unless_refused_too_often(Decision("swap", "healed"), refused, 7, 2).action == "swap"
    ended = unless_refused_too_often(reseed, refused, 1, 2)
    assert ended.action == "stuck"
    assert "otf.max_refused_halts" in ended.reason


# --- in LAMMPS ----------------------------------------------------------------------------------------------------


class Lost(LennardJones):
    """Lennard-Jones that knows the start structure only, whose nearest pair is 5 A apart: any way leads off the map."""

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        result = super().evaluate(frame, gamma=gamma)
        if result.gamma is not None:
            atoms = np.repeat(np.arange(frame.n_owned), np.diff(frame.first))
            nearest = np.linalg.norm(frame.positions[frame.neighbours] - frame.positions[atoms], axis=1).min()
            result.gamma[:] = 1.0
            result.gamma[0] += 10.0 * abs(nearest - 5.0)
        return result


def lost(_version: str) -> LennardJones:
    return Lost()


def test_it_goes_on_elsewhere_and_the_label_heals_what_it_left(tmp_path: Path) -> None:
    world = World(tmp_path, learns_at_once, while_waiting="continue_other_region")
    walker = world.walker()
    walker.start()
    while not walker.healing.aside:
        world.now += 3.0
        assert walker.step(world.now) is not Outcome.DONE
    (left,) = walker.healing.aside
    assert walker.state.state == "running"
    assert walker.state.seed != walker.plan.seed
    assert walker.state.step < left.step
    assert world.told()[-2:] == ["task_published", "reseeded"]
    assert walker.healing.queue.counts()["pending"] == 1
    assert walker.state.reseeds == 0  # nothing has failed
    world.publish(left.task_ids)
    world.live(walker)
    assert (walker.state.state, walker.state.step, walker.state.version) == ("done", 300, "v0002")
    assert walker.healing.aside == []
    ended = world.halts()[0]
    assert (ended["number"], ended["ended"]["action"], ended["ended"]["version"]) == (1, "swap", "v0002")
    assert ended["ended"]["gamma"] < THRESHOLD


def test_so_many_halts_are_left_open_and_no_more_and_it_ends_when_no_label_can_come(tmp_path: Path) -> None:
    world = World(tmp_path, lost, while_waiting="continue_other_region", max_open_halts=3)
    walker = world.walker()
    world.live(walker, labels=False, steps=60)
    assert walker.state.state == "halted"
    assert walker.md is None
    assert [h.number for h in walker.healing.aside] == [1, 2]
    assert walker.healing.halt is not None
    asked = [task for h in (*walker.healing.aside, walker.healing.halt) for task in h.task_ids]
    assert walker.step(world.now) is Outcome.IDLE
    for task in asked:
        walker.healing.queue.cancel(task)
    world.live(walker, labels=False, steps=5)
    assert walker.state.state == "stuck"
    assert "3 failed healings in a row" in walker.state.reason
    assert [h["ended"]["action"] for h in world.halts()] == ["reseed", "reseed", "stuck"]
    assert walker.state.extractions == 3


def test_a_start_structure_that_nobody_knows_is_waited_for(tmp_path: Path) -> None:
    world = World(tmp_path, never_learns, while_waiting="continue_other_region")
    walker = world.walker()
    world.live(walker, labels=False, steps=20)
    assert walker.state.state == "halted"
    assert walker.healing.aside == []


def test_a_kill_after_leaving_a_halt_asks_for_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, learns_at_once, while_waiting="continue_other_region")
    walker = world.walker()

    def killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(walker, "_reseed", killed)
    with pytest.raises(Killed):
        world.live(walker, labels=False)
    walker.close()
    again = world.walker()
    assert [h.number for h in again.healing.aside] == [1]
    again.start()
    while len(again.healing.aside) < 2:  # the branch is repeated, and left again
        world.now += 3.0
        assert again.step(world.now) is not Outcome.DONE
    first, second = again.healing.aside
    assert (first.step, first.task_ids) == (second.step, second.task_ids)
    assert again.healing.queue.counts()["pending"] == 1


def test_what_somebody_removed_from_the_queue_is_asked_for_again(tmp_path: Path) -> None:
    world = World(tmp_path, lost, while_waiting="continue_other_region")
    walker = world.walker()
    world.live(walker, labels=False, steps=60)
    (first, *_) = walker.healing.aside[0].task_ids
    next(path for _, found, _, path in walker.healing.queue.ls("pending") if found == first).unlink()
    world.now += 10.0
    walker.step(world.now)
    assert walker.healing.queue.state(first) == "pending"


def test_a_walker_that_finishes_goes_on_at_the_next_start(tmp_path: Path) -> None:
    world = World(tmp_path, learns_at_once, while_waiting="finish")
    walker = world.walker()
    world.live(walker, labels=False)
    assert walker.state.state == "done"
    assert 0 < walker.state.step < 300
    assert "otf.while_waiting is finish" in walker.state.reason
    assert walker.md is None
    assert walker.healing.queue.counts()["pending"] == 1
    early = world.walker()  # another start before the label is there
    world.live(early, labels=False)
    assert early.state.state == "done"
    assert early.state.step < 300
    world.publish(walker.healing.halt.task_ids)
    later = world.walker()
    world.live(later)
    assert (later.state.state, later.state.step) == ("done", 300)
    assert [h["ended"]["action"] for h in world.halts()] == ["swap"]


def test_halts_without_a_cell_are_no_extractions_and_end_as_stuck(tmp_path: Path) -> None:
    world = World(tmp_path, lost, max_refused_halts=4, reseed_limit=50, max_extractions=2)

    def refuse(*_: object, **__: object) -> None:
        raise NoFaithfulCell("embedding: atom 0: for the test", "no hint")

    walker = world.walker()
    walker.healing.carver.carve = refuse  # type: ignore[method-assign, assignment]
    world.live(walker)
    assert (walker.state.state, walker.state.extractions) == ("stuck", 0)
    assert "4 halts without a cell" in walker.state.reason
    assert walker.healing.may_extract(2)
    assert sorted(path.name for path in (world.folder / "halts").iterdir()) == [
        f"{n:04d}-refused.json" for n in range(1, 5)
    ]
    again = world.walker()  # another process counts the same
    assert (again.healing.extractions, again.healing.halts.count()) == (0, 4)
    state = read_state(world.folder)
    assert state is not None
    assert state.refusals == 3  # those after which it went on


# --- a shorter time step after a rewind -----------------------------------------------------------------------------


def test_after_a_rewind_the_time_step_is_shorter_for_a_while(tmp_path: Path) -> None:
    world = World(
        tmp_path, lambda v: Scaled(1.0 if v != "v0001" else 6.0), check_frequency=60, snapshot_interval=60,
        sense={"gamma": 1.2}, rewind_timestep=0.5,
    )  # fmt: skip
    walker = world.walker()
    world.live(walker)
    assert walker.state.state == "done"
    assert "rewound" in world.told()
    # From the start, after the rewind, after the swap, and beyond the time of the rewind.
    assert world.timesteps == [2.0, 1.0, 1.0, 2.0]
    (found,) = world.halts()
    assert found["gamma"] < 1.2 * THRESHOLD
    # At half the time step it takes twice the steps, less those that it halted before.
    assert 120 < found["step"] < 180
