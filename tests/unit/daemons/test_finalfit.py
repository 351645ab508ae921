"""When the last fit of a run, by pacemaker, is still to come, and when it begins."""

from __future__ import annotations

import pytest
from trainer_parts import World, labelled

from mlip_autopipec.daemons.finalfit import FinalFit
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.walkerstate import WalkerState, write_state


def publish(registry: Registry, trainer: str) -> str:
    work = registry.new_work_folder()
    for name in FILES:
        (work / name).write_text(trainer)
    return registry.publish(work, {"task_ids": [], "trainer": trainer})


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
    assert not final.is_due(version, 0)
    end(world, "running")
    assert not final.is_due(version, 0)
    end(world, "done")
    assert not final.is_due(version, 1)
    assert final.is_due(version, 0)
    made = publish(registry, "pacemaker")
    assert not final.outstanding(made)
    assert final.outstanding(publish(registry, "linear"))  # the run went on


@pytest.mark.parametrize("wanted", ["none", "pacemaker"])
def test_it_is_not_wanted_or_given_up(tmp_path, wanted):
    world = World(tmp_path, [labelled(0)], final=wanted)
    registry = Registry(world.run.potentials)
    final = FinalFit(world.run, world.config, registry)
    version = publish(registry, "linear")
    end(world, "done")
    assert final.is_due(version, 0) == (wanted == "pacemaker")
    final.failed("pacemaker is missing")
    assert not final.outstanding(version)
    assert final.error == "training.final: pacemaker is missing"
