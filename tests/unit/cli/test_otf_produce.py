"""`autopipe otf produce` as a user types it: real processes, signals, kills."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import bulk

from mlip_autopipec.cli.main import main
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.runtime.heartbeat import read_heartbeat
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.production import read_walker
from mlip_autopipec.store.rundir import RunDirectory
from small_potentials import fit_emt, publish_fit

AUTOPIPE = [str(Path(sys.executable).with_name("autopipe"))]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    return fit_emt(tmp_path_factory.mktemp("fit"), ("Al",))


@pytest.fixture
def run(tmp_path: Path, fitted: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.create()
    ase.io.write(run.root / "start.extxyz", bulk("Al", a=4.05, cubic=True).repeat(3))
    data = {
        "start": {"structure": "start.extxyz", "dataset": "start.extxyz"},
        "labeller": {"engine": "teacher", "model": "emt"},
        "otf": {"steps": 200, "snapshot_interval": 50, "walkers": 2, "threads": 1},
    }
    run.config_file.write_text(dump_mapping(data))
    publish_fit(run, fitted)
    return run


def command(run: RunDirectory, *words: str) -> list[str]:
    return [*AUTOPIPE, "otf", "produce", "-C", str(run.root), *words]


def produce(run: RunDirectory, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(run, *words), capture_output=True, text=True, timeout=120, check=False)


def wait_for(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def step_of(run: RunDirectory, name: str) -> int:
    state = read_walker(run.production / "v0001" / name)
    return -1 if state is None else state.step


def test_what_would_be_done_is_said_and_not_done(run: RunDirectory, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code, text in (
        (("--dry-run", "--json", "--walker", "w01"), 0, "would run w01 with v0001 from step 0 to 200"),
        (("--version", "v0099", "--json"), 4, "no version v0099"),
        (("--walker", "w05", "--json"), 4, "w05: no such walker"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["otf", "produce", "-C", str(run.root), *words])
        assert left.value.code == code
        told = capsys.readouterr()
        assert text in told.err
        assert isinstance(json.loads(told.out), dict)
    assert not run.production.exists()


def test_a_run_that_was_stopped_is_produced_from(run: RunDirectory) -> None:
    Control(run.control).ask("stop", "autopipe otf stop")
    done = produce(run, "--json")
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["version"], facts["warnings"]) == ("v0001", [])
    for walker in facts["walkers"]:
        assert (walker["state"], walker["step"], walker["frames"]) == ("done", 200, 5)
        assert [f.info["step"] for f in ase.io.read(walker["trajectory"], index=":")] == [0, 50, 100, 150, 200]
    assert not list(run.heartbeats.glob("produce*.json"))
    assert not list(run.walkers.iterdir())


@pytest.mark.slow
def test_signals_and_kills_cost_no_more_than_a_frame(run: RunDirectory) -> None:
    more = ("--steps", "100000")
    with subprocess.Popen(command(run, *more), stderr=subprocess.PIPE) as first:
        wait_for(lambda: step_of(run, "w00") > 100, "no frames")
        second = produce(run, *more)
        assert second.returncode == 75
        assert "another process" in second.stderr
        first.send_signal(signal.SIGTERM)
        assert first.wait(60) == 75
    stood = {name: step_of(run, name) for name in ("w00", "w01")}
    with subprocess.Popen(command(run, *more), stderr=subprocess.DEVNULL) as killed:
        wait_for(lambda: step_of(run, "w00") > stood["w00"] + 100, "does not go on")
        beat = read_heartbeat(run.production / "v0001" / "w00" / "heartbeat.json")
        killed.send_signal(signal.SIGKILL)
    assert beat is not None
    wait_for(lambda: not _lives(beat["pid"]), "a walker outlives its parent")
    stood = {name: step_of(run, name) for name in ("w00", "w01")}
    status = subprocess.run(
        [*AUTOPIPE, "status", "-C", str(run.root), "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    facts = json.loads(status.stdout)
    assert [w["step"] for w in facts["productions"][0]["walkers"]] == list(stood.values())
    assert any("autopipe otf produce --version v0001 goes on" in line for line in facts["problems"])
    done = produce(run, "--steps", str(max(stood.values()) + 60))
    assert done.returncode == 0, done.stderr
    for name in stood:
        frames = ase.io.read(run.production / "v0001" / name / "trajectory.extxyz.gz", index=":")
        steps = [frame.info["step"] for frame in frames]
        assert steps == list(range(0, max(stood.values()) + 60, 50))
        assert steps[-1] >= stood[name]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
