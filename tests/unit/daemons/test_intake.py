"""The intake: every label gets a row or a reason, once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from trainer_parts import NOW, World, frame, label, labelled

from mlip_autopipec.daemons import intake as intake_module
from mlip_autopipec.daemons.intake import LEFT_OUT, Intake
from mlip_autopipec.store.dataset import Dataset
from mlip_autopipec.store.refusals import read_refusals
from mlip_autopipec.store.results import make_result


def intake(world: World, force_limit: float = 100.0) -> Intake:
    found = Intake(world.run, world.config.labeller_settings(), force_limit=force_limit)
    found.load()
    return found


def damaged_result(world: World, seed: int) -> str:
    task = world.task(seed)
    path = world.results.path(task.id)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{")
    return task.id


def test_start_structures_with_labels_become_rows_and_those_without_do_not(tmp_path):
    world = World(tmp_path, [])
    frames = [labelled(1), frame(2), labelled(3)]
    for _ in range(2):
        taken = intake(world)
        taken.take_frames(frames)
        assert len(taken.labels) == 2
    assert [row.origin["number"] for row in Dataset(world.run.dataset).rows()] == [0, 2]


def test_a_structure_that_is_given_and_labelled_is_one_row(tmp_path):
    world = World(tmp_path, [])
    taken = intake(world)
    taken.take_frames([labelled(5)])
    world.give(world.task(5))
    taken.take_results()
    assert Dataset(world.run.dataset).count() == 1


def test_results_are_taken_once(tmp_path):
    world = World(tmp_path, [])
    ids = {world.give(world.task(seed)) for seed in range(4)}
    taken = intake(world)
    assert taken.take_results()
    assert not taken.take_results()
    assert taken.labels == ids
    again = intake(world)
    assert again.labels == ids
    assert not again.take_results()
    assert Dataset(world.run.dataset).count() == 4


def test_what_does_not_belong_is_refused_with_its_reason(tmp_path):
    world = World(tmp_path, [])
    foreign = world.give(world.task(10, sigma=3.0))
    masked = world.give(world.task(11, [0] + [1] * 8), force=1e6)  # no reason to refuse
    damaged = damaged_result(world, 12)
    taken = intake(world)
    taken.take_results()
    assert taken.labels == {masked}
    assert set(read_refusals(world.run)) == taken.refused == {foreign, damaged}
    assert "sigma" in read_refusals(world.run)[foreign]


def test_a_new_label_of_a_refused_task_is_judged_anew(tmp_path):
    world = World(tmp_path, [])
    damaged = damaged_result(world, 12)
    taken = intake(world)
    taken.take_results()
    world.results.path(damaged).unlink()
    taken.take_results()
    assert read_refusals(world.run) == {}
    world.give(world.task(12))
    taken.take_results()
    assert taken.labels == {damaged}


def test_a_new_label_that_came_while_the_trainer_was_down_is_judged_anew(tmp_path):
    world = World(tmp_path, [])
    damaged = damaged_result(world, 12)
    intake(world).take_results()
    world.results.path(damaged).unlink()
    world.give(world.task(12))
    taken = intake(world)
    taken.take_results()
    assert taken.labels == {damaged}
    assert read_refusals(world.run) == {}


def test_a_start_structure_that_is_refused_says_why(tmp_path):
    world = World(tmp_path, [])
    taken = intake(world, force_limit=1e-6)
    taken.take_frames([labelled(1)])
    assert taken.labels == set()
    assert "force_limit" in read_refusals(world.run)["start.dataset:0"]
    taken = intake(world)
    taken.take_frames([labelled(1)])
    assert len(taken.labels) == 1
    assert read_refusals(world.run) == {}


def test_a_label_that_was_made_again_replaces_its_row(tmp_path):
    world = World(tmp_path, [])
    task = world.task(1)
    world.queue.publish(task)
    claim = world.queue.claim()
    world.queue.complete(claim, make_result(task, label(task.atoms()), "test", NOW))
    taken = intake(world)
    taken.take_results()
    (before,) = Dataset(world.run.dataset).rows()
    world.queue.requeue(task.id)
    assert not taken.take_results()  # the old row stays until the new label is there
    world.give(task, energy_shift=1.0)
    assert taken.take_results()
    (after,) = Dataset(world.run.dataset).rows()
    assert after.energy == before.energy + 1.0
    assert (before.edition, after.edition) == (0, 1)
    assert not taken.take_results()
    again = intake(world)
    assert again.editions == {task.id: 1}
    assert not again.take_results()


def rows(world: World) -> dict[str, tuple[float, int]]:
    return {row.task_id: (row.energy, row.edition) for row in Dataset(world.run.dataset).rows()}


@pytest.mark.parametrize("stopped", [False, True])
@pytest.mark.parametrize("damage", [None, b"", b"garbage" * 1000])
def test_a_lost_or_damaged_database_comes_back_whole(tmp_path, damage, stopped):
    world = World(tmp_path, [])
    again = world.task(1)
    world.queue.publish(again)
    world.queue.complete(world.queue.claim(), make_result(again, label(again.atoms()), "test", NOW))
    taken = intake(world)
    taken.take_frames([labelled(5), frame(6)])
    taken.take_results()
    world.queue.requeue(again.id)
    world.give(again, energy_shift=1.0)
    world.give(world.task(2))
    taken.take_results()
    assert taken.rebuilt() == ""
    before = rows(world)
    assert before[again.id][1] == 1
    labels, editions = set(taken.labels), dict(taken.editions)
    if damage is None:
        world.run.dataset.unlink()
    else:
        world.run.dataset.write_bytes(damage)
    if stopped:
        taken = intake(world)
        taken.take_frames([labelled(5), frame(6)])
    said = taken.rebuilt()
    if damage is not None:
        assert "damaged" in said
        assert (tmp_path / "dataset.db.damaged-1").read_bytes() == damage
    elif not stopped:
        assert "gone" in said
    taken.take_results()
    assert rows(world) == before
    assert (taken.labels, taken.editions) == (labels, editions)
    assert taken.rebuilt() == ""


def test_an_older_copy_of_the_database_is_completed(tmp_path):
    world = World(tmp_path, [])
    taken = intake(world)
    taken.take_frames([labelled(5)])
    old = world.run.dataset.read_bytes()
    world.give(world.task(1))
    taken.take_results()
    world.run.dataset.write_bytes(old)
    assert taken.rebuilt() == ""
    assert len(rows(world)) == len(taken.labels) == 2


def test_labels_that_are_nowhere_any_more_are_lost(tmp_path):
    world = World(tmp_path, [])
    kept, lost, again = (world.task(seed) for seed in range(3))
    for task in (kept, lost, again):
        world.give(task)
    taken = intake(world)
    taken.take_results()
    held = set(taken.labels)
    world.run.dataset.unlink()
    world.results.path(lost.id).unlink()
    world.queue.publish(again)
    world.queue.sweep()
    world.queue.requeue(again.id)  # a person had it set aside: the next label is under way
    taken.rebuilt()
    assert taken.labels == {kept.id}
    assert taken.lost(held) == {lost.id}


def test_a_start_structure_with_a_number_that_is_none_is_refused_alone(tmp_path):
    world = World(tmp_path, [])
    bad = labelled(2)
    bad.calc.results["forces"][0, 0] = np.nan
    taken = intake(world)
    taken.take_frames([labelled(1), bad])
    assert len(taken.labels) == 1
    assert "not finite" in read_refusals(world.run)["start.dataset:1"]


def test_many_results_are_taken_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("mlip_autopipec.daemons.intake._BATCH", 3)
    world = World(tmp_path, [])
    ids = {world.give(world.task(seed)) for seed in range(6)}
    bad = {damaged_result(world, seed) for seed in range(6, 9)}
    written = []
    add = intake_module.add_refusals
    monkeypatch.setattr(
        intake_module, "add_refusals", lambda run, reasons: (written.append(reasons), add(run, reasons))
    )
    taken = intake(world)
    assert taken.rest == 9
    seen = []
    while taken.take_results():
        seen.append((len(taken.labels) + len(taken.refused), taken.rest))
    assert seen == [(3, 6), (6, 3), (9, 0)]
    assert (taken.labels, taken.refused) == (ids, bad)
    assert [len(reasons) for reasons in written if reasons] == [
        n for n in (len(bad & set(batch)) for batch in batches(sorted(ids | bad), 3)) if n
    ]
    # Gone with all its rows: it is whole again after as many steps, and said so only then.
    world.run.dataset.unlink()
    said = [taken.rebuilt()]
    assert taken.rest > 0
    assert taken.lost(ids | {"nowhere"}) == set()
    while not said[-1]:
        taken.take_results()
        said.append(taken.rebuilt())
    assert "gone" in said[-1]
    assert taken.labels == ids
    assert taken.lost(ids | {"nowhere"}) == {"nowhere"}


def batches(items, size):
    return [items[i : i + size] for i in range(0, len(items), size)]


def test_labels_that_were_made_again_are_taken_in_batches(tmp_path, monkeypatch):
    world = World(tmp_path, [])
    tasks = [world.task(seed) for seed in range(5)]
    for task in tasks:
        world.queue.publish(task)
        world.queue.complete(world.queue.claim(), make_result(task, label(task.atoms()), "test", NOW))
    taken = intake(world)
    taken.take_results()
    monkeypatch.setattr("mlip_autopipec.daemons.intake._BATCH", 2)
    for task in tasks:
        world.queue.requeue(task.id)
        world.give(task, energy_shift=1.0)
    rests = []
    while taken.take_results():
        rests.append(taken.rest)
    assert rests == [3, 1, 0]
    assert set(taken.editions) == {task.id for task in tasks}


def test_flags_of_labels_are_known_again_after_a_restart(tmp_path):
    world = World(tmp_path, [])
    odd, magnetic = world.task(1), [world.task(2), world.task(3)]
    infos = [{"flags": {"surprise": "large force"}}, {"moments": [2.0] * 9}, {"moments": [0.0] * 9}]
    for task, info in zip([odd, *magnetic], infos, strict=True):
        truth = replace(label(task.atoms()), info=info)
        world.results.write_once(task.id, make_result(task, truth, "test", NOW))
    taken = intake(world)
    taken.take_results()
    for found in (taken, intake(world)):
        assert {i: sorted(flags) for i, flags in found.flags.items()} == {
            odd.id: ["surprise"], magnetic[1].id: ["moment_jump"],
        }  # fmt: skip


def test_damaged_moments_and_flags_are_refused(tmp_path):
    world = World(tmp_path, [])
    tasks = [world.task(1), world.task(2)]
    for task, info in zip(tasks, [{"moments": [1.0]}, {"flags": "odd"}], strict=True):
        world.results.write_once(task.id, make_result(task, replace(label(task.atoms()), info=info), "test", NOW))
    taken = intake(world)
    taken.take_results()
    assert taken.refused == {task.id for task in tasks}
    assert "moments" in read_refusals(world.run)[tasks[0].id]


def test_what_a_setting_left_out_is_judged_again_at_the_next_start(tmp_path):
    world = World(tmp_path, [])
    task_id = world.give(world.task(1))
    taken = intake(world)
    taken.take_results()
    taken.refuse(task_id, f"{LEFT_OUT}its energy is odd")
    assert intake(world).refused == set()
