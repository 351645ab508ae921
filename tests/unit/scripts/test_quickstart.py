"""`scripts/quickstart` over a stand-in for `autopipe`: what it shows when a walker is stuck."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("status", "code", "table"), [(0, 0, True), (3, 0, True), (1, 1, False)])
def test_a_stuck_walker_does_not_hide_the_errors(tmp_path: Path, status: int, code: int, table: bool) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(ROOT / "scripts" / "quickstart", scripts)
    (tmp_path / "autopipe").write_text(f'#!/bin/sh\necho "did $1"\n[ "$1" != status ] || exit {status}\n')
    (tmp_path / "autopipe").chmod(0o755)
    # The real one installs; this one only puts the stand-in first, under the same shell options.
    (scripts / "environment.sh").write_text(f'set -euo pipefail\nmake_environment() {{ PATH="{tmp_path}:$PATH"; }}\n')
    done = subprocess.run(
        ["bash", str(scripts / "quickstart"), str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert ("did potential" in done.stdout) is table
