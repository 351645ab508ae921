"""`scripts/quickstart` over a stand-in for `autopipe`: what it shows when a walker is stuck."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("status", "code", "table"), [(0, 0, True), (3, 0, True), (1, 1, False)])
def test_a_stuck_walker_does_not_hide_the_errors(tmp_path: Path, status: int, code: int, table: bool) -> None:
    done = quickstart(tmp_path, status)
    assert done.returncode == code, done.stderr
    assert ("did potential" in done.stdout) is table


def test_nothing_but_the_licence_free_core_is_installed(tmp_path: Path) -> None:
    assert "extras: <>\n" in quickstart(tmp_path, 0).stdout


def quickstart(tmp_path: Path, status: int) -> subprocess.CompletedProcess[str]:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(ROOT / "scripts" / "quickstart", scripts)
    (tmp_path / "autopipe").write_text(f'#!/bin/sh\necho "did $1"\n[ "$1" != status ] || exit {status}\n')
    (tmp_path / "autopipe").chmod(0o755)
    # The real one installs; this one only puts the stand-in first, under the same shell options.
    install = f'make_environment() {{ PATH="{tmp_path}:$PATH"; echo "extras: <$*>"; }}'
    (scripts / "environment.sh").write_text(f"set -euo pipefail\n{install}\n")
    return subprocess.run(
        ["bash", str(scripts / "quickstart"), str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
