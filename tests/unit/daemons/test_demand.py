"""What there is to learn, compared with the newest version."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from trainer_parts import World, labelled

from mlip_autopipec.daemons.demand import Demand
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.store.registry import FILES, Registry


def demand(world: World, unfinished: Callable[[], int] = lambda: 0) -> Demand:
    intake = Intake(world.run, world.config.labeller_settings(), force_limit=100.0)
    intake.load()
    intake.take_frames([labelled(seed) for seed in range(4)])
    intake.take_results()
    made = Demand(intake, Registry(world.run.potentials), world.config.training, has_given=False, unfinished=unfinished)
    made.read_versions()
    return made


def publish(world: World, labels: set[str]) -> str:
    registry = Registry(world.run.potentials)
    work = registry.new_work_folder()
    for name in FILES:
        (work / name).write_text("{}")
    return registry.publish(work, {"task_ids": sorted(labels)})


def test_labels_that_are_in_the_newest_version_are_not_new(tmp_path: Path) -> None:
    world = World(tmp_path, [])
    first = demand(world)
    assert first.is_due(0.0)
    publish(world, first.new())
    task = world.give(world.task(10))
    second = demand(world, lambda: 1)
    assert (second.version, second.new()) == ("v0001", {task})
    assert not second.is_due(0.0)
    assert "1 of 3 new labels, 1 tasks under way" in second.waiting_for


def test_a_newest_version_that_cannot_be_read_is_fitted_again_even_under_a_pin(tmp_path: Path) -> None:
    world = World(tmp_path, [])
    labels = demand(world).new()
    publish(world, labels)
    task = world.give(world.task(10))
    newest = publish(world, {*labels, task})
    registry = Registry(world.run.potentials)
    registry.set_current("v0001", pinned=True)
    (registry.path(newest) / "manifest.json").write_text("{")
    found = demand(world)
    assert (found.version, found.new()) == ("v0001", {task})
    assert registry.versions() == ["v0001"]
    assert registry.next_version() == "v0003"
    current = registry.current()
    assert current is not None
    assert (current.version, current.pinned) == ("v0001", True)


def test_a_newest_version_whose_manifest_says_nothing_is_set_aside(tmp_path: Path) -> None:
    world = World(tmp_path, [])
    labels = demand(world).new()
    publish(world, labels)
    newest = publish(world, labels)
    (Registry(world.run.potentials).path(newest) / "manifest.json").write_text("{}")
    assert demand(world).version == "v0001"
    assert (world.run.potentials / f".stray-{newest}").is_dir()
