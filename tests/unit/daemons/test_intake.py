"""The intake: every label gets a row or a reason, once."""

from __future__ import annotations

from trainer_parts import NOW, World, frame, label, labelled

from mlip_autopipec.daemons.intake import Intake
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
