"""A program's family ends with it, even if the launcher itself was killed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from mlip_autopipec.core.program import Stop, run_program

LAUNCHER = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def test_ranks_of_a_killed_launcher_are_ended(tmp_path: Path) -> None:
    found: list[int] = []

    def kill_launcher() -> bool:
        """Called every second while the program runs; kills it once its child is there."""
        said = (tmp_path / "out").read_text()
        if said and not found:
            found.append(int(said))
            launcher = psutil.Process(found[0]).parent()
            assert launcher is not None
            # Once this look is over.
            threading.Timer(0.2, os.kill, (launcher.pid, signal.SIGKILL)).start()
        return False

    ended = run_program(
        [sys.executable, "-c", LAUNCHER], tmp_path, tmp_path / "out", tmp_path / "err", {}, 60.0, kill_launcher
    )
    assert ended.code == -signal.SIGKILL
    end = time.monotonic() + 10.0
    while psutil.pid_exists(found[0]) and psutil.Process(found[0]).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize("descriptors", ["enough", "none left"])
def test_a_program_ends_as_it_will_or_at_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, descriptors: str
) -> None:
    if descriptors == "none left":
        monkeypatch.setattr(os, "pidfd_open", _refuse)
    files = (tmp_path, tmp_path / "out", tmp_path / "err", {})
    ended = run_program([sys.executable, "-c", "print('said'); raise SystemExit(3)"], *files, 60.0)
    assert (ended.code, ended.stop) == (3, None)
    assert (tmp_path / "out").read_text() == "said\n"
    ended = run_program(["sleep", "600"], *files, 0.3)
    assert (ended.code, ended.stop) == (-signal.SIGTERM, Stop.TIME)
    assert ended.seconds < 60.0


def _refuse(*_: object) -> int:
    raise OSError(24, "too many open files")
