"""Waiting for a supervisor that takes its time to start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.daemons import starting
from mlip_autopipec.store.rundir import RunDirectory

# Beats "starting" for a second, as one does that publishes many tasks, then works.
SLOW = """
import sys, time
from pathlib import Path
from mlip_autopipec.runtime.heartbeat import Heartbeat
beat = Heartbeat(Path(sys.argv[1]), "supervisor")
beat.beat("starting")
time.sleep(2)
beat.beat("bootstrap")
time.sleep(60)
"""
# Says that it failed, and needs a moment to leave.
FAILED = """
import os, sys, time
from pathlib import Path
from mlip_autopipec.runtime.heartbeat import Heartbeat
print("everybody may write to the queue", file=sys.stderr)
Heartbeat(Path(sys.argv[1]), "supervisor").beat("failed")
time.sleep(1)
"""
MUTE = "import time; time.sleep(60)"


@pytest.mark.parametrize(("end", "code"), [("sys.exit(78)", 78), ("sys.exit(0)", 75), ("os.kill(os.getpid(), 9)", 75)])
def test_who_fails_at_once_has_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, code: int
) -> None:
    run = RunDirectory(tmp_path)
    run.create()
    real = subprocess.Popen

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return real([sys.executable, "-c", FAILED + end, str(run.heartbeats / "supervisor.json")], **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(AutopipeError, match="everybody may write to the queue") as caught:
        starting.begin(run)
    assert caught.value.exit_code == code


@pytest.mark.parametrize(("code", "comes_up"), [(SLOW, True), (MUTE, False)])
def test_who_has_begun_to_start_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, comes_up: bool
) -> None:
    run = RunDirectory(tmp_path)
    run.create()
    heartbeat = run.heartbeats / "supervisor.json"
    real, started = subprocess.Popen, []

    def popen(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        process = real([sys.executable, "-c", code, str(heartbeat)], **options)
        started.append(process)
        if code is SLOW:
            while not heartbeat.exists():  # the import of our own takes a while on a busy machine
                assert process.poll() is None
        return process

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setattr(starting, "_START_S", 0.5)
    try:
        if comes_up:
            assert starting.begin(run) == (started[0].pid, True)
        else:
            with pytest.raises(AutopipeError, match="does not come up"):
                starting.begin(run)
    finally:
        for process in started:
            process.kill()
            process.wait()
