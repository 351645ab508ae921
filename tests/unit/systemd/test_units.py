"""The systemd units: one per service, installed with this Python, accepted by systemd."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

ROOT = Path(__file__).parents[3]
SERVICES = sorted(p.stem for p in (ROOT / "services").glob("*.py") if p.stem not in ("__init__", "options"))
ENVIRONMENT = {"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "HOME": "/"}


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("units")
    script = [str(ROOT / "scripts" / "install-units"), "--to", str(folder)]
    subprocess.run(script, check=True, capture_output=True, env=ENVIRONMENT)
    return folder


def test_there_is_one_unit_per_service_and_a_target(units: Path) -> None:
    names = {f"autopipe-{service.replace('_', '-')}@.service" for service in SERVICES}
    assert {path.name for path in units.iterdir()} == names | {"autopipe.target"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_unit_runs_its_service_with_its_options(units: Path, service: str) -> None:
    text = (units / f"autopipe-{service.replace('_', '-')}@.service").read_text()
    command = re.search(r"^ExecStart=(.*)$", text, re.MULTILINE)
    assert command is not None
    words = command.group(1).split()
    assert words[:5] == [sys.executable, "-m", f"autopipe_services.{service}", "-C", "/%I"]
    shown = CliRunner().invoke(importlib.import_module(words[2]).main, ["--help"]).stdout
    for option in (word for word in words[3:] if word.startswith("-")):
        assert option in shown


def test_systemd_accepts_the_units(units: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing")
    files = [str(path) for path in units.glob("*.service")]
    done = subprocess.run(["systemd-analyze", "verify", *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    script = [str(ROOT / "scripts" / "install-units"), "--to", str(tmp_path / "none"), "--dry-run"]
    done = subprocess.run(script, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert "would write" in done.stdout
    assert not (tmp_path / "none").exists()
