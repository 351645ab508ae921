"""One supervisor, otf-runner and trainer per run, on however many hosts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from supervised import Parts

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.core.files import write_json
from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.daemons import starting
from mlip_autopipec.daemons.inoffice import InOffice, runners_office, supervisors_office
from mlip_autopipec.daemons.launch import AlreadyRunning
from mlip_autopipec.daemons.supervisor import Supervisor
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.store.office import Office
from mlip_autopipec.store.rundir import RunDirectory

LEASE_S = 12.0
ELSEWHERE = {"host": "elsewhere", "pid": 7, "start": "b007-1-2"}


class Recorder:
    """A daemon that tells what was done with it."""

    def __init__(self, told: list[str]) -> None:
        self.told = told
        told.append("made")

    def start(self) -> None:
        self.told.append("start")

    def step(self, now: float) -> Outcome:
        return Outcome.WORKED

    def drain(self) -> None:
        self.told.append("drain")

    def close(self) -> None:
        self.told.append("close")

    def dismiss(self) -> None:
        self.told.append("dismiss")

    def status(self) -> tuple[str, dict[str, Any]]:
        return "busy", {}

    def ending(self, number: int | None) -> int:
        return 3


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    run.create()
    run.config_file.write_text("")
    return run


@pytest.fixture
def path(run: RunDirectory) -> Path:
    return run.heartbeats / "x.lease"


def held_elsewhere(path: Path, counter: int = 1) -> None:
    write_json(path, {**ELSEWHERE, "counter": counter})


def daemon(path: Path, clock: ManualClock, told: list[str], *, wait: bool) -> InOffice:
    return InOffice(Office(path, LEASE_S, clock), lambda: Recorder(told), wait=wait)


def test_it_passes_everything_on_while_the_office_is_held(path: Path, clock: ManualClock) -> None:
    told: list[str] = []
    made = daemon(path, clock, told, wait=True)
    assert told == []
    made.start()
    assert made.step(0.0) is Outcome.WORKED
    assert made.status() == ("busy", {})
    made.drain()
    assert made.ending(None) == 3
    made.close()
    assert told == ["made", "start", "drain", "close"]
    assert not path.exists()


def test_it_stands_by_until_the_holder_is_dead(path: Path, clock: ManualClock) -> None:
    told: list[str] = []
    held_elsewhere(path)
    made = daemon(path, clock, told, wait=True)
    made.start()
    for counter in range(2, 6):
        clock.advance(LEASE_S - 1)
        held_elsewhere(path, counter)
        assert made.step(0.0) is Outcome.IDLE
    assert made.status() == ("waiting", {"waiting_for": "the office of process 7 on elsewhere"})
    assert told == []
    clock.advance(LEASE_S)
    assert made.step(0.0) is Outcome.WORKED
    assert told == ["made", "start"]
    made.close()


def test_who_does_not_wait_leaves_when_the_holder_moves(path: Path, clock: ManualClock) -> None:
    told: list[str] = []
    held_elsewhere(path)
    made = daemon(path, clock, told, wait=False)
    made.start()
    assert made.step(0.0) is Outcome.IDLE
    held_elsewhere(path, 2)
    with pytest.raises(AlreadyRunning, match="process 7 on elsewhere") as caught:
        made.step(0.0)
    assert caught.value.exit_code == 75
    made.close()
    assert path.exists()
    assert told == []


def test_a_living_holder_of_this_host_is_seen_at_once(path: Path, clock: ManualClock) -> None:
    holder, made = daemon(path, clock, [], wait=False), daemon(path, clock, [], wait=False)
    holder.start()
    with pytest.raises(AlreadyRunning, match=f"process {os.getpid()} on"):
        made.start()
    holder.close()
    made.start()
    made.close()


@pytest.mark.parametrize(
    ("wait", "number", "code"), [(True, None, 0), (False, None, 75), (False, signal.SIGTERM, 75), (False, 2, 130)]
)
def test_drained_while_it_stands_by(path: Path, clock: ManualClock, wait: bool, number: int | None, code: int) -> None:
    held_elsewhere(path)
    made = daemon(path, clock, [], wait=wait)
    made.start()
    made.drain()
    assert made.step(0.0) is Outcome.DONE
    assert made.ending(number) == code


def test_who_loses_the_office_is_dismissed(path: Path, clock: ManualClock) -> None:
    told: list[str] = []
    made = daemon(path, clock, told, wait=True)
    made.start()
    clock.advance(LEASE_S)
    path.unlink()
    held_elsewhere(path)
    with pytest.raises(QueueError, match="taken over by process 7 on elsewhere"):
        made.step(0.0)
    made.close()
    assert told == ["made", "start", "dismiss", "close"]
    assert json.loads(path.read_text())["pid"] == 7


# --- supervisor -------------------------------------------------------------------------------------------------


def supervisor(run: RunDirectory, clock: ManualClock) -> InOffice:
    def make() -> Supervisor:
        return Supervisor(run, Parts(), services=[])  # type: ignore[arg-type]

    return InOffice(Office(run.heartbeats / "supervisor.lease", LEASE_S, clock), make, wait=False)


def test_a_second_supervisor_touches_nothing(run: RunDirectory, clock: ManualClock) -> None:
    held_elsewhere(run.heartbeats / "supervisor.lease")
    run.merged_events.write_text('{"event": "md_star')  # the holder is just writing
    second = supervisor(run, clock)
    second.start()
    second.step(0.0)
    second.close()
    assert run.merged_events.read_text() == '{"event": "md_star'
    assert not run.state.exists()


def test_a_supervisor_that_lost_the_run_merges_nothing(run: RunDirectory, clock: ManualClock) -> None:
    first = supervisor(run, clock)
    first.start()
    first.step(0.0)
    EventLog(run.events, "w00").emit("md_started", walker="w00")
    clock.advance(LEASE_S)
    held_elsewhere_instead(run.heartbeats / "supervisor.lease")
    with pytest.raises(QueueError, match="taken over"):
        first.step(0.0)
    first.close()
    assert not run.merged_events.exists()


def held_elsewhere_instead(path: Path) -> None:
    path.unlink()
    held_elsewhere(path)


# Stands by for a second, then works.
STANDS_BY = """
import sys, time
from pathlib import Path
from mlip_autopipec.runtime.heartbeat import Heartbeat
beat = Heartbeat(Path(sys.argv[1]), "supervisor")
beat.beat("waiting", {"waiting_for": "the office of process 7 on elsewhere"})
time.sleep(1)
beat.beat("bootstrap")
time.sleep(60)
"""


def test_a_start_tells_who_is_waited_for(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    heartbeat = run.heartbeats / "supervisor.json"
    real, started, said = subprocess.Popen, [], []

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        process = real([sys.executable, "-c", STANDS_BY, str(heartbeat)], **options)
        started.append(process)
        return process

    monkeypatch.setattr(subprocess, "Popen", popen)
    try:
        assert starting.begin(run, say=said.append) == (started[0].pid, True)
        assert json.loads(heartbeat.read_text())["state"] == "bootstrap"
    finally:
        started[0].kill()
        started[0].wait()
    assert said == ["waiting for the office of process 7 on elsewhere, unless it is dead"]


# --- otf-runner -------------------------------------------------------------------------------------------------


def test_a_walker_of_an_ousted_runner_ends_without_writing(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlip_autopipec.daemons import otf_runner
    from mlip_autopipec.stages.watch import OtfSettings, walker_plans

    told: list[str] = []
    monkeypatch.setattr(otf_runner, "build_walker", lambda *_: Recorder(told))
    office = runners_office(run, LEASE_S)
    assert office.take()
    plan = walker_plans(OtfSettings())[0]
    changes: list[Callable[[], None]] = [lambda: held_elsewhere_instead(run.heartbeats / "otf-runner.lease")]
    step = Recorder.step

    def step_and_lose(self: Recorder, now: float) -> Outcome:
        if changes:
            changes.pop()()
        time.sleep(0.05)
        return step(self, now)

    monkeypatch.setattr(Recorder, "step", step_and_lose)
    assert otf_runner.walker_process(str(run.root), Parts(), plan, ProcessIdentity.own()) == 75  # type: ignore[arg-type]
    assert told == ["made", "start", "close"]  # not drained: that would save


def test_offices_of_different_work_are_different(run: RunDirectory) -> None:
    offices = [supervisors_office(run, LEASE_S), runners_office(run, LEASE_S)]
    assert all(office.take() for office in offices)
    for office in offices:
        office.drop()
