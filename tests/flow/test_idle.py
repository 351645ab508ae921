"""Idle daemons cost nothing (issue 2, Must show 6)."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from running import autopipe, edit_config, processes_of, status, wait_until

pytestmark = pytest.mark.flow

WINDOW_S = 30
LIMIT_PERCENT = 2.0


def test_idle_daemons_use_less_than_two_percent_of_a_core(tmp_path: Path) -> None:
    run = tmp_path / "run"
    autopipe("init", run, "--example", "lj2d")
    # Without a dft-worker nothing is ever labelled: everybody waits, the walker included.
    edit_config(run, supervisor={"dft_workers": 0})
    autopipe("otf", "start", "-C", run)
    try:
        wait_until(lambda: [w for w in status(run)["walkers"] if w["waiting_for"]], "the walker does not wait")
        # One more dft-worker, with an empty queue of its own run, would need labels; started by hand it has none here.
        processes = [p for p in processes_of(run) if p.status() != psutil.STATUS_ZOMBIE]
        assert len(processes) >= 4  # supervisor, trainer-worker, otf-runner, walker
        time.sleep(3)  # imports are over
        before = {p: sum(p.cpu_times()[:2]) for p in processes}
        time.sleep(WINDOW_S)
        for process, used in before.items():
            percent = 100 * (sum(process.cpu_times()[:2]) - used) / WINDOW_S
            print(f"{percent:5.2f} %  {' '.join(process.cmdline()[1:])[:90]}")
            assert percent < LIMIT_PERCENT
    finally:
        autopipe("otf", "stop", "-C", run)
    assert processes_of(run) == []
