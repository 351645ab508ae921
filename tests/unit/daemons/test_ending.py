"""The run ends by a rule, also in the middle of MD; and a walker that cannot be started holds up nobody."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import Any

import pytest
from trainer_parts import World

from mlip_autopipec.config import Config
from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.events import read_events
from mlip_autopipec.daemons.ending import RunEnd
from mlip_autopipec.daemons.otf_runner import OtfRunner
from mlip_autopipec.daemons.preflight import preflight
from mlip_autopipec.runtime.child import Child
from mlip_autopipec.stages.end import EndSettings
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.calibration import Calibration, write_calibration
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import WalkerState, read_state, write_state

TARGET = 0.1


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, [])


def config_of(world: World, **end: Any) -> Config:
    otf = OtfSettings(walkers=3, target_force_error=TARGET, steps=9000)
    return world.config.model_copy(update={"otf": otf, "end": EndSettings(**end)})


def stands(run: RunDirectory, name: str, **state: Any) -> None:
    run.walker(name).mkdir(exist_ok=True)
    write_state(run.walker(name), WalkerState(name, steps=9000, **state))


def publish(run: RunDirectory) -> str:
    registry = Registry(run.potentials)
    work = registry.new_work_folder()
    for name in FILES:
        (work / name).write_text("{}")
    return registry.publish(work, {"task_ids": []})


def test_hours_are_those_of_all_starts_together(world: World) -> None:
    config = config_of(world, hours=1.5)
    first = RunEnd(world.run, config)
    assert not any(first.look(now) for now in (100.0, 1900.0, 3700.0))  # an hour
    second = RunEnd(world.run, config)  # the next start, whose clock begins anew
    assert not second.look(5.0)
    assert not second.look(1700.0)
    assert second.look(1900.0)
    assert "end.hours: 1.5" in second.reason


def test_labels_under_way_count(world: World) -> None:
    end = RunEnd(world.run, config_of(world, labels=3))
    world.give(world.task(1))
    world.queue.publish(world.task(2))
    assert not end.look(0.0)
    world.queue.publish(world.task(3))
    assert not end.look(1.0)  # files are looked at now and then only
    assert end.look(10.0)


def test_converged_and_quiet(world: World) -> None:
    end = RunEnd(world.run, config_of(world, quiet_steps=1000))
    version = publish(world.run)
    stands(world.run, "w00", state="running", step=4000, extracted_step=2900)
    stands(world.run, "w01", state="stuck", step=10, extracted_step=10)
    assert not end.look(0.0)  # w02 has not even begun
    stands(world.run, "w02", state="running", step=1999, extracted_step=1000)
    write_calibration(world.run.calibration, Calibration(version, TARGET, bound=0.08, converged=True))
    assert not end.look(10.0)  # one step more is wanted of w02
    stands(world.run, "w02", state="running", step=2000, extracted_step=1000)
    for calibration in (
        Calibration(version, TARGET, bound=0.12),
        Calibration("v0000", TARGET, bound=0.08, converged=True),  # of an earlier version
        Calibration(version, 0.5, bound=0.3, converged=True),  # of an earlier target
    ):
        write_calibration(world.run.calibration, calibration)
        end = RunEnd(world.run, config_of(world, quiet_steps=1000))
        assert not end.look(20.0)
    write_calibration(world.run.calibration, Calibration(version, TARGET, bound=0.08, converged=True))
    assert end.look(30.0)
    assert "converged" in end.reason


def test_a_damaged_file_ends_no_run(world: World) -> None:
    world.run.hours.write_text("{")
    world.run.walker("w00").mkdir()
    (world.run.walker("w00") / "state.json").write_text("{")
    end = RunEnd(world.run, config_of(world, labels=1))
    assert not end.look(0.0)
    (world.run.walker("w00") / "state.json").unlink()
    world.give(world.task(1))
    assert end.look(10.0)


def test_quiet_steps_without_a_target_are_refused_at_the_start(world: World) -> None:
    config = config_of(world, quiet_steps=1000)
    config = config.model_copy(update={"otf": config.otf.model_copy(update={"target_force_error": None})})
    with pytest.raises(ConfigError, match=r"end\.quiet_steps: 1000"):
        preflight(world.run, config)


# --- the otf-runner -------------------------------------------------------------------------------------------------


def runner(world: World, config: Config, started: list[str]) -> OtfRunner:
    made = OtfRunner(world.run, config)

    def start_walker(seat: Any) -> None:
        started.append(seat.plan.name)
        seat.child = Child(time.sleep, (600.0,), seat.plan.name)

    made._start_walker = start_walker  # type: ignore[method-assign]
    made.start()
    return made


def test_walkers_at_work_end_as_done_when_the_run_is_over(world: World) -> None:
    started: list[str] = []
    made = runner(world, config_of(world, labels=1), started)
    stands(world.run, "w01", state="stuck", step=10, reason="no luck")
    stands(world.run, "w02", state="halted", step=70, version="v0001", waiting_for="label of task a")
    made.step(0.0)
    assert started == ["w00", "w01", "w02"]
    world.give(world.task(1))
    deadline = time.monotonic() + 30
    while made.status()[0] != "finished" and time.monotonic() < deadline:
        made.step(10.0)  # they end by the signal
        time.sleep(0.05)
    assert made.status()[0] == "finished"
    states = [read_state(world.run.walker(f"w{n:02d}")) for n in range(3)]
    assert [s.state for s in states if s] == ["done", "stuck", "done"]
    assert all("the run is over: 1 labels" in s.reason for s in states if s and s.state == "done")
    told = read_events(world.run.events / "otf-runner.jsonl")
    assert [(e["event"], e["walker"], e["ended"]) for e in told] == [
        ("md_completed", "w00", "done"), ("md_completed", "w02", "done"),
    ]  # fmt: skip
    made.close()
    again = runner(world, config_of(world, labels=1), started)  # a new start by the same rules: nobody moves
    again.step(0.0)
    assert (again.status()[0], len(started)) == ("finished", 3)


def test_who_does_not_leave_is_killed(world: World) -> None:
    made = runner(world, config_of(world, labels=1), [])

    def deaf(seat: Any) -> None:
        seat.child = Child(_deaf, (), seat.plan.name)

    made._start_walker = deaf  # type: ignore[method-assign]
    made.step(0.0)
    time.sleep(1.0)  # they do not listen any more
    world.give(world.task(1))
    deadline, now = time.monotonic() + 30, 10.0
    while made.status()[0] != "finished" and time.monotonic() < deadline:
        made.step(now)
        now += 5.0
        time.sleep(0.05)
    assert made.status()[0] == "finished"


def _deaf() -> None:
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600.0)


def test_a_walker_that_cannot_be_started_is_tried_again_and_the_others_go_on(world: World) -> None:
    started: list[str] = []
    made = runner(world, config_of(world), started)
    real, failures = made._start_walker, 3

    def start_walker(seat: Any) -> None:
        nonlocal failures
        if seat.plan.name == "w00" and failures:
            failures -= 1
            raise OSError(errno.EAGAIN, "no process to be had")
        real(seat)

    made._start_walker = start_walker  # type: ignore[method-assign]
    tried = []
    for now in range(12):
        left = failures
        made.step(float(now))
        if failures < left or ("w00" in started and "w00" not in [t for _, t in tried]):
            tried.append((now, "w00" if "w00" in started else ""))
    made.close()
    assert sorted(started) == ["w00", "w01", "w02"]
    assert started.index("w00") == 2
    assert [now for now, _ in tried] == [0, 1, 3, 7]  # longer and longer
