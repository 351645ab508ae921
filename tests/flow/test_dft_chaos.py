"""A short `scripts/chaos dft`: workers, children and pw.x are killed; each structure has one end, nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def chaos(plan: str) -> dict[str, object]:
    words = [sys.executable, "-P", "-m", "chaos_runs.dft", *plan.split(), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, env=environment)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["bad"] == []
    assert done.returncode == 0
    assert report["labels"] + report["failures"] == report["tasks"]
    return dict(report)


@pytest.mark.flow
@pytest.mark.parametrize("scratch", ["local", "beside"])
def test_short_chaos(scratch: str) -> None:
    # 20 structures are all the characters of the fake pw.x; no hanging one among the first 19.
    report = chaos(f"--tasks 19 --workers 2 --kills 8 --pause 0.5 --lease 2 --seed 7 --scratch {scratch}")
    assert report["kills"] == 8
    assert report["labels"] >= 15


@pytest.mark.flow
def test_short_chaos_with_the_real_pw_x(pw_x: str) -> None:
    report = chaos("--engine real --tasks 3 --workers 2 --kills 3 --pause 1.5 --lease 2 --seed 7 --scratch beside")
    assert report["labels"] == 3
