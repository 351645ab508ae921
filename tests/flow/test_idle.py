"""Idle daemons cost nothing (issue 2, Must show 6)."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from running import AUTOPIPE, autopipe, edit_config, processes_of, status, wait_until

pytestmark = pytest.mark.flow

WINDOW_S = 30
LIMIT_PERCENT = 2.0


def test_idle_daemons_use_less_than_two_percent_of_a_core(tmp_path: Path) -> None:
    run = tmp_path / "run"
    autopipe("init", run, "--example", "lj2d")
    # Without a dft-worker nothing is ever labelled: everybody waits, the walkers included.
    edit_config(run, supervisor={"dft_workers": 0})
    autopipe("otf", "start", "-C", run)
    # A dft-worker with nothing to do: its run has no tasks.
    empty = tmp_path / "empty"
    autopipe("init", empty, "--example", "lj2d")
    worker = subprocess.Popen([str(AUTOPIPE), "worker", "dft", "-C", str(empty)])
    try:
        wait_until(lambda: [w for w in status(run)["walkers"] if w["waiting_for"]], "the walker does not wait")
        processes = processes_of(run) + processes_of(empty)
        assert len(processes) >= 6  # supervisor, trainer-worker and its child, otf-runner, walkers, dft-worker
        time.sleep(3)  # imports are over
        before = {p: sum(p.cpu_times()[:2]) for p in processes}
        time.sleep(WINDOW_S)
        for process, used in before.items():
            percent = 100 * (sum(process.cpu_times()[:2]) - used) / WINDOW_S
            print(f"{percent:5.2f} %  {' '.join(process.cmdline()[1:])[:90]}")
            assert percent < LIMIT_PERCENT
    finally:
        worker.terminate()
        autopipe("otf", "stop", "-C", run)
        assert worker.wait(30) == 0
    assert processes_of(run) == []
