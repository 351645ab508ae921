"""When the last fit of a run, by pacemaker, is still to come, and when it begins."""

from __future__ import annotations

import pytest
from trainer_parts import World, labelled

from mlip_autopipec.core.files import write_json
from mlip_autopipec.daemons.finalfit import FinalFit
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.walkerstate import WalkerState, write_state


def publish(registry: Registry, trainer: str) -> str:
    work = registry.new_work_folder()
    for name in FILES:
        (work / name).write_text(trainer)
    return registry.publish(work, {"task_ids": [], "trainer": trainer})


def beat(world: World, counter: int, state: str = "finished") -> None:
    record = {"name": "otf-runner", "pid": 1, "host": "h", "process_start": "p", "detail": {}, "updated": ""}
    write_json(world.run.heartbeats / "otf-runner.json", {**record, "counter": counter, "state": state})


def none() -> int:
    return 0


def end(world: World, state) -> None:
    for plan in walker_plans(world.config.otf):
        folder = world.run.walkers / plan.name
        folder.mkdir(parents=True, exist_ok=True)
        write_state(folder, WalkerState(plan.name, state=state))


def test_it_begins_when_walkers_have_ended_and_nothing_is_under_way(tmp_path):
    world = World(tmp_path, [labelled(0)], final="pacemaker")
    registry = Registry(world.run.potentials)
    final = FinalFit(world.run, world.config, registry)
    assert not final.outstanding(None)
    version = publish(registry, "linear")
    assert final.outstanding(version)
    beat(world, 1)
    assert not final.is_due(version, none)
    beat(world, 2)
    end(world, "running")
    assert not final.is_due(version, none)
    end(world, "done")
    assert not final.is_due(version, lambda: 1)
    assert final.is_due(version, none)
    made = publish(registry, "pacemaker")
    assert not final.outstanding(made)
    assert final.outstanding(publish(registry, "linear"))  # the run went on


def test_walkers_that_ended_before_a_restart_have_not_ended(tmp_path):
    world = World(tmp_path, [labelled(0)], final="pacemaker")
    final = FinalFit(world.run, world.config, registry := Registry(world.run.potentials))
    version = publish(registry, "linear")
    end(world, "done")
    beat(world, 90)  # of the earlier start
    assert not final.is_due(version, none)
    assert not final.is_due(version, none)
    beat(world, 1, "running")
    assert not final.is_due(version, none)
    beat(world, 2)
    assert final.is_due(version, none)


def test_the_queue_is_asked_only_if_all_else_is_so(tmp_path):
    def never() -> int:
        raise AssertionError

    world = World(tmp_path, [labelled(0)], final="none")
    version = publish(registry := Registry(world.run.potentials), "linear")
    end(world, "done")
    for counter in (1, 2):
        beat(world, counter)
        assert not FinalFit(world.run, world.config, registry).is_due(version, never)


@pytest.mark.parametrize("wanted", ["none", "pacemaker"])
def test_it_is_not_wanted_or_given_up(tmp_path, wanted):
    world = World(tmp_path, [labelled(0)], final=wanted)
    registry = Registry(world.run.potentials)
    final = FinalFit(world.run, world.config, registry)
    version = publish(registry, "linear")
    end(world, "done")
    assert not final.is_due(version, none)
    beat(world, 1)
    assert final.is_due(version, none) == (wanted == "pacemaker")
    final.failed("pacemaker is missing")
    assert not final.outstanding(version)
    assert final.error == "training.final: pacemaker is missing"
