"""A short `scripts/chaos queue`: kills, zombies, hand moves and a full disk at once lose nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "chaos_runs" / "queue.py"


@pytest.mark.flow
def test_short_chaos() -> None:
    plan = "--kills 150 --tasks 150 --seconds 12 --lease 2 --megabytes 16 --seed 7 --json"
    words = [sys.executable, "-P", str(SCRIPT), *plan.split()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["bad"] == []
    assert done.returncode == 0
    assert sum(report["states"].values()) == report["tasks"] == 150
    assert min(report["kills"], report["stops"], report["moves"]) > 5
