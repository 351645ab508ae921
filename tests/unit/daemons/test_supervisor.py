"""The supervisor over real processes: starts, restarts, ends, and survives its own death."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from supervised import Parts
from worker_parts import new_task

from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.daemons.service_process import ServiceProcess
from mlip_autopipec.daemons.supervisor import Supervisor
from mlip_autopipec.runtime.heartbeat import heartbeat_identity, read_heartbeat
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.state import WorkflowState
from mlip_autopipec.store.walkerstate import WalkerState, write_state

HERE = str(Path(__file__).parent)


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 30) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(what)
        time.sleep(0.02)
    return value


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    monkeypatch.setenv("PYTHONPATH", HERE, prepend=os.pathsep)
    run = RunDirectory(tmp_path)
    run.create()
    run.config_file.write_text("")
    return run


@contextlib.contextmanager
def supervisor(run: RunDirectory, *names: str, **options: Any) -> Iterator[Supervisor]:
    services = [("fake_service", name) for name in names]
    made = Supervisor(run, Parts(), services=services, **options)  # type: ignore[arg-type]
    try:
        made.start()
        yield made
    finally:
        made.close()


def steps(made: Supervisor, until: Callable[[], Any], what: str = "") -> Any:
    def once() -> Any:
        made.step(time.monotonic())
        return until()

    return wait_for(once, what)


def beat(run: RunDirectory, name: str) -> dict[str, Any]:
    return read_heartbeat(run.heartbeats / f"{name}.json") or {"state": None, "detail": {}}


def identity(run: RunDirectory, name: str) -> ProcessIdentity:
    found = heartbeat_identity(beat(run, name))
    assert found is not None
    return found


def is_up(run: RunDirectory, *names: str) -> bool:
    return all(beat(run, name)["state"] in ("idle", "finished") for name in names)


def merged(run: RunDirectory) -> list[tuple[str, str]]:
    text = run.merged_events.read_text() if run.merged_events.exists() else ""
    return [(record["event"], record["process"]) for record in map(json.loads, text.splitlines())]


def test_daemons_are_started_drained_and_their_events_merged(run: RunDirectory) -> None:
    names = ("trainer-worker", "dft-worker-0")
    hooks: list[str] = []
    with supervisor(run, *names, at_start=[lambda: hooks.append("seeds")]) as made:
        steps(made, lambda: is_up(run, *names), "daemons did not come up")
        processes = [identity(run, name) for name in names]
        state, detail = made.status()
        assert state == "bootstrap"
        assert {name: child["pid"] for name, child in detail["children"].items()} == {
            name: process.pid for name, process in zip(names, processes, strict=True)
        }
        made.drain()
        wait_for(lambda: made.step(time.monotonic()) is Outcome.DONE, "not drained")
        assert not any(process.alive() for process in processes)
    assert hooks == ["seeds"]
    assert [beat(run, name)["state"] for name in names] == ["stopped", "stopped"]
    assert sorted(merged(run)) == sorted((event, name) for name in names for event in ("md_started", "md_completed"))
    assert WorkflowState.read(run.state) == WorkflowState(0, "bootstrap", 0, "training")


def test_a_crashing_daemon_is_restarted_with_backoff_and_shown(run: RunDirectory) -> None:
    with supervisor(run, "crasher") as made:
        steps(made, lambda: made.services[0].restarts == 4, "not restarted")
        shown = made.status()[1]["children"]["crasher"]
    assert shown["restarts"] == 4
    assert shown["last_exit"].startswith("exit code 3: ")
    assert "something went wrong" in (run.logs / "crasher.log").read_text()


def test_pauses_double_up_to_the_limit_and_start_anew_after_a_long_life(run: RunDirectory) -> None:
    # Time is told, not measured: on a busy machine a process that crashes at once lives for seconds.
    service = ServiceProcess(run, Parts().supervisor, module="fake_service", name="crasher")
    now, pauses = 0.0, []
    for lived_s in (0.1, 0.1, 0.3, 0.1, 0.5):
        service.tend(now)
        assert service._process is not None
        service._process.wait()
        now += lived_s
        assert service.tend(now)
        pauses.append(service._start_at - now)
        now = service._start_at
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.4, 0.1])


def test_a_night_of_crashes_does_not_end_the_supervisor(run: RunDirectory) -> None:
    service = ServiceProcess(run, Parts().supervisor, module="fake_service", name="crasher")
    service._crashes_in_a_row = 5000
    assert service._next_pause() == pytest.approx(0.4)


def test_removed_logs_end_nobody(run: RunDirectory) -> None:
    with supervisor(run, "crasher") as made:
        steps(made, lambda: made.services[0].running)
        process = made.services[0]._process
        assert process is not None
        process.wait()
        shutil.rmtree(run.logs)
        steps(made, lambda: made.services[0].restarts == 1)
        assert made.services[0].last_exit == "exit code 3"
        steps(made, lambda: made.services[0].restarts == 2)
        assert "something went wrong" in (run.logs / "crasher.log").read_text()


def test_a_host_without_a_free_process_does_not_end_it(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def exhausted(*_: Any, **__: Any) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    with supervisor(run, "dft-worker-0") as made:
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", exhausted)
            now = time.monotonic()
            made.step(now)
        assert "dft-worker-0: not started: [Errno 11] Resource temporarily" in caplog.text
        assert made.services[0].describe()["last_exit"].startswith("not started")
        assert made.services[0]._start_at > now
        steps(made, lambda: is_up(run, "dft-worker-0"), "not tried again")


def test_a_daemon_killed_by_a_signal_without_a_name(run: RunDirectory) -> None:
    with supervisor(run, "dft-worker-0") as made:
        steps(made, lambda: is_up(run, "dft-worker-0"))
        os.kill(identity(run, "dft-worker-0").pid, signal.SIGRTMIN + 3)
        steps(made, lambda: made.services[0].restarts == 1)
        assert made.services[0].last_exit == f"killed by signal {signal.SIGRTMIN + 3}"


def test_a_task_that_cannot_be_moved_holds_up_neither_the_others_nor_the_supervisor(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = TaskQueue(run.queue / "dft", Results(run.results), worker="dft-worker-0", attempts=run.attempts)
    tasks = [new_task(atoms=atoms) for atoms in (2, 3, 4)]
    for task in tasks:
        queue.publish(task)
    assert all(queue.claim() for _ in tasks)
    rename = os.rename

    def broken(source: Any, target: Any) -> None:
        if tasks[1].id in str(source):
            raise OSError(errno.EIO, "I/O error")
        rename(source, target)

    with supervisor(run) as made:
        monkeypatch.setattr(os, "rename", broken)
        made._take_back("dft-worker-0")
        monkeypatch.undo()
    assert [queue.state(task.id) for task in tasks] == ["pending", "running", "pending"]


def test_a_full_disk_does_not_end_it(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with supervisor(run) as made:
        monkeypatch.setattr(WorkflowState, "write", full)
        assert made.step(time.monotonic()) is Outcome.IDLE
        assert "state not written" in caplog.text
        monkeypatch.undo()
        made.step(time.monotonic() + 10)
    assert WorkflowState.read(run.state) == WorkflowState(0, "bootstrap", 0, "training")


def test_in_the_foreground_a_person_is_told(run: RunDirectory) -> None:
    said: list[str] = []
    with supervisor(run, "trainer-worker", say=said.append) as made:
        steps(made, lambda: "trainer-worker started with None" in said, "nothing was said")
    assert "labels 0 (0 waiting), no potential yet" in said


def test_tasks_of_a_killed_worker_are_returned_at_once(run: RunDirectory) -> None:
    queue = TaskQueue(run.queue / "dft", Results(run.results), worker="dft-worker-0", attempts=run.attempts)
    task = new_task()
    queue.publish(task)
    with supervisor(run, "dft-worker-0") as made:
        steps(made, lambda: is_up(run, "dft-worker-0"))
        assert queue.claim() is not None  # in the name of the stand-in
        identity(run, "dft-worker-0").send(signal.SIGKILL)
        steps(made, lambda: queue.state(task.id) == "pending", "the task was not returned")
        assert made.status()[1]["children"]["dft-worker-0"]["last_exit"] == "killed by SIGKILL"
        steps(made, lambda: made.services[0].running, "not restarted")


def test_a_daemon_that_does_not_drain_is_killed(run: RunDirectory) -> None:
    with supervisor(run, "stubborn") as made:
        steps(made, lambda: is_up(run, "stubborn"))
        process = identity(run, "stubborn")
        made.drain()
        wait_for(lambda: made.step(time.monotonic()) is Outcome.DONE, "not ended")
        assert not process.alive()
        assert made.services[0].last_exit == "killed by SIGKILL"


def test_a_predecessor_ends_before_its_successor_starts(run: RunDirectory) -> None:
    left = subprocess.Popen([sys.executable, "-m", "fake_service", "-C", str(run.root), "--name", "stubborn"])
    try:
        wait_for(lambda: is_up(run, "stubborn"), "not up")
        with supervisor(run, "stubborn") as made:
            steps(made, lambda: left.poll() is not None or made.services[0].running)
            assert left.poll() == -signal.SIGKILL
            steps(made, lambda: made.services[0].running, "the successor was not started")
            made.services[0].kill()
    finally:
        left.kill()
        left.wait()


# --- the supervisor as a process -------------------------------------------------------------------------------


@contextlib.contextmanager
def process(run: RunDirectory, *names: str) -> Iterator[subprocess.Popen[bytes]]:
    with (run.logs / "supervisor.log").open("ab") as log:
        started = subprocess.Popen([sys.executable, "-m", "supervised", str(run.root), *names], stderr=log)
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        wait_for(lambda: not left_of(run), "somebody was left behind")


def left_of(run: RunDirectory) -> list[int]:
    found = psutil.process_iter(["cmdline"])
    return [p.pid for p in found if p.pid != os.getpid() and str(run.root) in (p.info["cmdline"] or [])]


def test_daemons_end_with_a_killed_supervisor_and_the_next_goes_on(run: RunDirectory) -> None:
    names = ("trainer-worker", "dft-worker-0")
    with process(run, *names) as first:
        wait_for(lambda: is_up(run, *names) and len(merged(run)) == 2, "not up")
        old = [identity(run, name) for name in names]
        first.send_signal(signal.SIGKILL)
        wait_for(lambda: not any(p.alive() for p in old), "a daemon outlived its supervisor")
    assert [beat(run, name)["state"] for name in names] == ["stopped", "stopped"]  # drained, not killed
    with process(run, *names) as second:
        wait_for(lambda: is_up(run, *names), "not up again")
        Control(run.control).ask("stop")
        assert second.wait(30) == 0
    told = [pair for name in names for pair in (("md_started", name), ("md_completed", name))] * 2
    assert sorted(merged(run)) == sorted(told)


def test_there_is_one_supervisor_per_run(run: RunDirectory) -> None:
    with process(run):
        wait_for(lambda: beat(run, "supervisor")["state"] == "bootstrap", "not up")
        other = subprocess.run(
            [sys.executable, "-m", "supervised", str(run.root)], capture_output=True, text=True, timeout=30, check=False
        )
    assert other.returncode == 75
    assert "another process of this name" in other.stderr


def test_in_the_foreground_it_ends_when_the_run_is_done(run: RunDirectory) -> None:
    publish_version(run)
    walker = run.walker("w00")
    walker.mkdir()
    write_state(walker, WalkerState("w00", state="running"))
    (run.root / "trainer-worker.uningested").write_text("1")
    names = ("trainer-worker", "otf-runner")
    with process(run, "--foreground", *names) as started:
        wait_for(lambda: is_up(run, *names), "not up")
        write_state(walker, WalkerState("w00", state="done"))
        time.sleep(3)
        assert WorkflowState.read(run.state) == WorkflowState(1, "otf", 0)
        assert started.poll() is None
        (run.root / "trainer-worker.uningested").write_text("0")
        assert started.wait(30) == 0
    assert WorkflowState.read(run.state) == WorkflowState(1, "done", 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75), (None, 75)])
def test_in_the_foreground_an_end_before_the_run_is_done_is_no_success(
    run: RunDirectory, number: signal.Signals | None, code: int
) -> None:
    publish_version(run)
    with process(run, "--foreground", "otf-runner") as started:
        wait_for(lambda: is_up(run, "otf-runner"), "not up")
        if number is None:
            Control(run.control).ask("stop")
        else:
            started.send_signal(number)
        assert started.wait(30) == code
    assert beat(run, "supervisor")["state"] == "stopped"


def test_how_an_earlier_start_ended_is_no_success_of_this_one(run: RunDirectory) -> None:
    WorkflowState(1, "done", 0).write(run.state)
    with supervisor(run, foreground=True) as made:
        assert made.ending(signal.SIGINT) == 130


def test_in_the_foreground_stuck_walkers_are_no_success(run: RunDirectory) -> None:
    publish_version(run)
    run.walker("w00").mkdir()
    write_state(run.walker("w00"), WalkerState("w00", state="stuck"))
    with process(run, "--foreground", "trainer-worker", "otf-runner") as started:
        assert started.wait(30) == 3
    assert WorkflowState.read(run.state) == WorkflowState(1, "stuck", 0)


def publish_version(run: RunDirectory) -> None:
    folder = run.potentials / "v0001"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"version": "v0001", "task_ids": []}')
    (run.potentials / "current.json").write_text('{"version": "v0001", "sha256": "", "pinned": false}')


def test_an_idle_supervisor_uses_less_than_two_percent_of_a_core(run: RunDirectory) -> None:
    with process(run, "dft-worker-0") as started:
        wait_for(lambda: is_up(run, "dft-worker-0"), "not up")
        time.sleep(1)
        watched = psutil.Process(started.pid)
        before, begin = sum(watched.cpu_times()[:2]), time.monotonic()
        time.sleep(3)
        share = (sum(watched.cpu_times()[:2]) - before) / (time.monotonic() - begin)
    print(f"an idle supervisor uses {100 * share:.2f} % of a core")
    assert share < 0.02
