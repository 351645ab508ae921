"""`autopipe otf start|stop` and `autopipe worker dft` on a real run directory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from click.testing import CliRunner

from mlip_autopipec.cli.otf import otf
from mlip_autopipec.config import freeze, load
from mlip_autopipec.runtime.heartbeat import read_heartbeat
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.rundir import RunDirectory

AUTOPIPE = str(Path(sys.executable).with_name("autopipe"))


def autopipe(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([AUTOPIPE, *map(str, words)], capture_output=True, text=True, timeout=120, check=False)


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(what)
        time.sleep(0.05)


def processes(run: Path) -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [p for p in found if p.pid != os.getpid() and any(str(run) in w for w in p.info["cmdline"] or [])]


def state(run: Path, name: str) -> str | None:
    return (read_heartbeat(run / "heartbeats" / f"{name}.json") or {}).get("state")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Files of an example run, made once."""
    folder = tmp_path_factory.mktemp("template") / "run"
    assert autopipe("init", folder, "--example", "lj2d").returncode == 0
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def run(template: dict[str, bytes], tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "run"
    for name, content in template.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    yield folder
    for process in processes(folder):
        process.kill()


def configure(run: Path, section: str, **values: Any) -> None:
    file = run / "autopipe.yaml"
    config = yaml.safe_load(file.read_text())
    config.setdefault(section, {}).update(values)
    file.write_text(yaml.safe_dump(config))


def test_start_detaches_and_stop_leaves_nothing(run: Path) -> None:
    started = autopipe("otf", "start", "-C", run)
    assert started.returncode == 0, started.stderr
    assert "started supervisor" in started.stderr
    assert state(run, "supervisor") in ("bootstrap", "otf")
    frozen = (run / "exec_config_dump.yaml").read_bytes()
    configure(run, "otf", steps=77)
    again = autopipe("otf", "start", "-C", run)
    assert (run / "exec_config_dump.yaml").read_bytes() == frozen  # its daemons go on by what they were started with
    assert (again.returncode, "already running" in again.stderr) == (0, True)
    busy = autopipe("otf", "start", "-C", run, "--foreground")
    assert (busy.returncode, "runs already" in busy.stderr) == (75, True)
    names = ("dft-worker-0", "trainer-worker", "otf-runner")
    wait_for(lambda: all(state(run, name) not in (None, "starting") for name in names), "daemons did not come up")
    dry = autopipe("otf", "stop", "-C", run, "--dry-run")
    assert all(f"would stop {name}" in dry.stderr for name in names)
    assert not Control(run / "control").wants("stop")
    stopped = autopipe("otf", "stop", "-C", run, "--json")
    assert stopped.returncode == 0
    report = json.loads(stopped.stdout)
    assert {*names, "supervisor"} <= set(report["stopped"])
    assert report["killed"] == report["unknown"] == []
    assert processes(run) == []
    assert "nothing was running" in autopipe("otf", "stop", "-C", run).stderr
    worker = autopipe("worker", "dft", "-C", run)
    assert (worker.returncode, "this run is stopped" in worker.stderr) == (75, True)


def test_stop_kills_what_does_not_drain(run: Path) -> None:
    configure(run, "supervisor", dft_workers=0)
    assert autopipe("otf", "start", "-C", run).returncode == 0
    wait_for(lambda: state(run, "trainer-worker") not in (None, "starting"), "no trainer")
    record = read_heartbeat(run / "heartbeats" / "trainer-worker.json")
    assert record is not None
    os.kill(record["pid"], signal.SIGSTOP)
    stopped = autopipe("otf", "stop", "-C", run, "--timeout", "3", "--json")
    assert stopped.returncode == 0
    assert {"supervisor", "trainer-worker"} <= set(json.loads(stopped.stdout)["killed"])
    wait_for(lambda: processes(run) == [], "somebody is left")


def test_daemons_read_what_was_frozen(run: Path) -> None:
    main = [sys.executable, "-m", "autopipe_services.dft_worker", "-C", str(run)]
    early = subprocess.run(main, capture_output=True, text=True, timeout=60, check=False)
    assert (early.returncode, "not started yet" in early.stderr) == (75, True)
    folder = RunDirectory(run)
    freeze(folder, load(folder))
    (run / "autopipe.yaml").write_text("nonsense: 1")  # being edited while the run is at work
    worker = subprocess.Popen(main, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: state(run, "dft-worker-0") == "idle" or worker.poll() is not None, "no heartbeat")
        assert worker.poll() is None
        hand = autopipe("worker", "dft", "-C", run, "--name", "extra", "--idle-timeout", "0.2")
        assert (hand.returncode, state(run, "extra")) == (0, "stopped")
    finally:
        worker.kill()
        worker.wait()


def test_a_dry_start_starts_and_writes_nothing(run: Path) -> None:
    before = sorted(run.rglob("*"))
    done = autopipe("otf", "start", "-C", run, "--dry-run")
    assert done.returncode == 0
    assert "would start dft-worker-0" in done.stderr
    assert sorted(run.rglob("*")) == before


def test_a_start_that_fails_says_why_in_one_line(run: Path) -> None:
    (run / "start" / "dataset.extxyz").write_text("nonsense")
    done = autopipe("otf", "start", "-C", run)
    assert done.returncode == 78
    assert "dataset.extxyz" in done.stderr
    assert "Traceback" not in done.stderr
    assert processes(run) == []


def test_a_worker_by_hand_labels_and_ends_by_itself(run: Path) -> None:
    done = autopipe("worker", "dft", "-C", run, "--name", "extra", "--idle-timeout", "0.2")
    assert done.returncode == 0, done.stderr
    assert state(run, "extra") == "stopped"


def test_a_worker_without_a_name_leaves_no_heartbeat(run: Path) -> None:
    done = autopipe("worker", "dft", "-C", run, "--idle-timeout", "0.2")
    assert done.returncode == 0, done.stderr
    assert list((run / "heartbeats").iterdir()) == []


def test_pause_and_resume(run: Path) -> None:
    control = Control(run / "control")
    for words, said, paused in (
        (["resume"], "not paused", False),
        (["pause", "--dry-run"], "would be paused", False),
        (["pause"], "paused", True),
        (["pause"], "already paused", True),
        (["resume", "--dry-run"], "would be resumed", True),
        (["resume"], "resumed", False),
    ):
        done = CliRunner().invoke(otf, [*words, "-C", str(run)])
        assert (done.exit_code, done.stderr.strip(), control.wants("pause")) == (0, said, paused)
