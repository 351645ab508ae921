"""The serve loop: outcomes, draining, exit codes, systemd, and what an idle daemon costs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlip_autopipec.core.errors import AutopipeError, ConfigError
from mlip_autopipec.runtime.heartbeat import Heartbeat, read_heartbeat
from mlip_autopipec.runtime.serve import Outcome, serve


class Scripted:
    """Plays a list of outcomes; then it is idle until drained. Writes down what is called."""

    def __init__(self, *outcomes: Outcome | Exception | Callable[[], Outcome]) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[str] = []
        self.draining = False

    def start(self) -> None:
        self.calls.append("start")

    def step(self, now: float) -> Outcome:
        self.calls.append("step")
        if not self.outcomes:
            return Outcome.DONE if self.draining else Outcome.IDLE
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome if isinstance(outcome, Outcome) else outcome()

    def drain(self) -> None:
        self.calls.append("drain")
        self.draining = True

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def heartbeat(tmp_path: Path) -> Heartbeat:
    return Heartbeat(tmp_path / "d.json", "d")


def run(daemon: Any, heartbeat: Heartbeat, stop: Callable[[], bool] = lambda: False) -> int:
    return serve(daemon, heartbeat=heartbeat, stop=stop, idle_s=0.05)


def signal_self(number: int) -> Callable[[], Outcome]:
    def act() -> Outcome:
        os.kill(os.getpid(), number)
        return Outcome.IDLE

    return act


def test_done_ends_with_zero_and_closes(heartbeat: Heartbeat) -> None:
    daemon = Scripted(Outcome.WORKED, Outcome.IDLE, Outcome.DONE)
    assert run(daemon, heartbeat) == 0
    assert daemon.calls == ["start", "step", "step", "step", "close"]
    assert read_heartbeat(heartbeat.path)["state"] == "stopped"  # type: ignore[index]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(heartbeat: Heartbeat, number: int) -> None:
    before = signal.getsignal(number)
    daemon = Scripted(signal_self(number))
    assert run(daemon, heartbeat) == 0
    assert daemon.calls == ["start", "step", "drain", "step", "close"]
    assert signal.getsignal(number) is before


def test_the_stop_wish_drains(heartbeat: Heartbeat) -> None:
    daemon = Scripted()
    assert run(daemon, heartbeat, stop=lambda: daemon.calls.count("step") > 2) == 0
    assert daemon.calls[-3:] == ["drain", "step", "close"]


def test_a_second_interrupt_leaves_at_once(heartbeat: Heartbeat) -> None:
    daemon = Scripted(signal_self(signal.SIGINT), signal_self(signal.SIGINT), Outcome.WORKED)
    assert run(daemon, heartbeat) == 130
    assert daemon.calls[-1] == "close"


def test_a_signal_ends_the_sleep_of_an_idle_daemon(heartbeat: Heartbeat) -> None:
    daemon = Scripted()
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    begin = time.monotonic()
    assert serve(daemon, heartbeat=heartbeat, stop=lambda: False, idle_s=1000.0) == 0
    timer.join()
    assert time.monotonic() - begin < 20  # the first sleep alone would take 40 s


def test_errors_of_the_house_are_one_line_with_hint_and_exit_code(
    heartbeat: Heartbeat, caplog: pytest.LogCaptureFixture
) -> None:
    daemon = Scripted(ConfigError("a: wrong\nb: wrong too", "mend it"))
    assert run(daemon, heartbeat) == 78
    assert [r.getMessage() for r in caplog.records if r.levelname == "ERROR"] == ["a: wrong b: wrong too (mend it)"]
    assert daemon.calls[-1] == "close"
    record = read_heartbeat(heartbeat.path)
    assert record is not None
    assert (record["state"], record["detail"]) == ("failed", {"exit_code": 78})


def test_unexpected_errors_are_logged_and_exit_one(heartbeat: Heartbeat, caplog: pytest.LogCaptureFixture) -> None:
    assert run(Scripted(RuntimeError("boom")), heartbeat) == 1
    assert "boom" in caplog.text
    assert "Traceback" in caplog.text


def test_an_error_in_start_or_close_is_no_success(heartbeat: Heartbeat) -> None:
    class Bad(Scripted):
        def start(self) -> None:
            raise AutopipeError("cannot start")

    class Worse(Scripted):
        def close(self) -> None:
            raise RuntimeError("cannot close")

    bad = Bad()
    assert run(bad, heartbeat) == 1
    assert bad.calls == ["close"]
    assert run(Worse(Outcome.DONE), heartbeat) == 1


def test_what_a_daemon_reports_is_in_its_heartbeat(heartbeat: Heartbeat) -> None:
    seen: list[Any] = []

    class Telling(Scripted):
        def status(self) -> tuple[str, dict[str, Any]]:
            return "training", {"uningested": 3}

        def step(self, now: float) -> Outcome:
            seen.append(read_heartbeat(heartbeat.path))
            return super().step(now)

    assert run(Telling(Outcome.WORKED, Outcome.WORKED, Outcome.DONE), heartbeat) == 0
    assert [record["state"] for record in seen] == ["starting", "training", "training"]
    assert seen[-1]["detail"] == {"uningested": 3}


def test_a_second_interruption_while_closing_is_told(heartbeat: Heartbeat) -> None:
    class Slow(Scripted):
        def close(self) -> None:
            raise KeyboardInterrupt

    assert run(Slow(Outcome.DONE), heartbeat) == 130
    record = read_heartbeat(heartbeat.path)
    assert record is not None
    assert (record["state"], record["detail"]) == ("failed", {"exit_code": 130})


def test_systemd_is_told(heartbeat: Heartbeat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000")
        assert run(Scripted(Outcome.WORKED, signal_self(signal.SIGTERM)), heartbeat) == 0
        told = [listener.recv(100).decode() for _ in range(4)]
        assert told[:2] == ["READY=1", "WATCHDOG=1"]
        assert "STOPPING=1" in told[2:]


IDLE = """
import sys
from pathlib import Path
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.runtime.serve import Outcome, serve

class Idle:
    def start(self): pass
    def step(self, now): return Outcome.IDLE
    def drain(self): self.step = lambda now: Outcome.DONE
    def close(self): pass

wish = Path(sys.argv[1]) / "stop"
sys.exit(serve(Idle(), heartbeat=Heartbeat(Path(sys.argv[1]) / "idle.json", "idle"), stop=wish.exists))
"""


def test_an_idle_daemon_uses_less_than_two_percent_of_a_core(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", IDLE, str(tmp_path)])
    try:
        while (record := read_heartbeat(tmp_path / "idle.json")) is None or record["counter"] < 3:
            assert process.poll() is None
            time.sleep(0.05)
        times, begin = psutil.Process(process.pid).cpu_times(), time.monotonic()
        time.sleep(3)
        after = psutil.Process(process.pid).cpu_times()
        share = (after.user + after.system - times.user - times.system) / (time.monotonic() - begin)
        print(f"an idle daemon uses {100 * share:.2f} % of a core")
        assert share < 0.02
    finally:
        process.terminate()
    assert process.wait(20) == 0
