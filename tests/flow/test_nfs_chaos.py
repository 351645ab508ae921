"""A short `scripts/chaos nfs`: two hosts lose nothing while replies, connections, server and workers are lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.slow
@pytest.mark.flow
@pytest.mark.parametrize("version", ["3", "4.2"])
def test_two_hosts_on_nfs(version: str) -> None:
    plan = f"--versions {version} --tasks 150 --seconds 20 --workers 2 --seed 7 --json"
    words = [sys.executable, "-P", "-m", "chaos_runs.nfs", *plan.split()]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, env=environment)
    if done.returncode == 78:
        pytest.skip(done.stderr.strip())
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["bad"] == []
    assert done.returncode == 0
    (report,) = found["runs"]
    assert report["states"] == {"done": 150}
    assert report["lost"] == report["duplicated"] == 0
    assert min(report["replies_lost"], report["connections_cut"], report["server_kills"], report["worker_kills"]) > 0
