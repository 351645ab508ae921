"""SIGKILL of every process in mid-work loses no label and doubles none (issue 2, Must show 3)."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from running import AUTOPIPE, autopipe, edit_config, merged_events, processes_of, status, wait_until

pytestmark = pytest.mark.flow


def results_of(run: Path) -> dict[str, tuple[int, int]]:
    """Identity of every finished label's file: a label made again would be another file."""
    return {p.stem: (p.stat().st_ino, p.stat().st_mtime_ns) for p in (run / "results").rglob("*.json")}


def daemon(run: Path, name: str) -> psutil.Process | None:
    """Return the living process of that name, if it is at work."""
    for record in status(run)["daemons"]:
        if record["name"] == name and record["alive"] and record["state"] != "starting":
            return psutil.Process(record["pid"])
    return None


def kill(run: Path, name: str) -> None:
    process = wait_until(lambda: daemon(run, name), f"{name} is not at work")
    process.send_signal(signal.SIGKILL)


def walker_process(run: Path, name: str) -> psutil.Process | None:
    file = run / "heartbeats" / f"{name}.json"
    if not file.exists():
        return None
    pid = json.loads(file.read_text())["pid"]
    return psutil.Process(pid) if psutil.pid_exists(pid) else None


def happened(run: Path, event: str) -> list[dict[str, Any]]:
    return [e for e in merged_events(run) if e["event"] == event]


def test_every_process_is_killed_once_in_mid_work(tmp_path: Path) -> None:
    run = tmp_path / "run"
    autopipe("init", run, "--example", "lj2d")
    edit_config(
        run,
        otf={"steps": 800, "ensemble": "nve", "walkers": [{"seed": 1}, {"seed": 2}]},
        training={"min_new_labels": 1},
        queue={"lease_s": 12},
    )
    with subprocess.Popen([str(AUTOPIPE), "otf", "start", "-C", str(run), "--foreground"]) as supervisor:
        # In mid-labelling of the first training set.
        wait_until(lambda: len(results_of(run)) >= 5, "no labels")
        kill(run, "dft-worker-0")
        # In mid-fit, or right before.
        wait_until(lambda: len(results_of(run)) >= 60, "labels stopped after the worker's death")
        kill(run, "trainer-worker")
        # In mid-MD: a walker itself, then the runner with all its walkers.
        wait_until(lambda: happened(run, "gamma_exceeded"), "no halt")
        process = wait_until(lambda: walker_process(run, "w00"), "no walker")
        process.send_signal(signal.SIGKILL)
        kill(run, "otf-runner")
        wait_until(lambda: happened(run, "swapped"), "no swap after the runner's death")
        finished = results_of(run)
        supervisor.send_signal(signal.SIGKILL)
    wait_until(lambda: processes_of(run) == [], "daemons outlive their supervisor", timeout=60)

    assert autopipe("otf", "start", "-C", run, "--foreground").returncode == 0

    facts = status(run)
    assert facts["workflow"]["phase"] == "done"
    assert [w["state"] for w in facts["walkers"]] == ["done", "done"]
    after = results_of(run)
    assert {task: after[task] for task in finished} == finished, "a finished label was made again"
    manifest = json.loads((run / "potentials" / facts["current"] / "manifest.json").read_text())
    assert len(manifest["task_ids"]) == len(set(manifest["task_ids"]))
    from ase.db import connect

    keys = [row.task.removeprefix("task-") for row in connect(run / "dataset.db").select()]
    assert len(keys) == len(set(keys))
    assert set(after) <= set(keys)
    done = {p.name for p in (run / "queue" / "dft" / "done").rglob("*.json")}
    assert len(done) == len(after)
    assert processes_of(run) == []


def test_stop_leaves_nothing_and_start_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    autopipe("init", run, "--example", "lj2d")
    # Far more steps than are made before the stop, however slowly a busy machine looks and stops.
    edit_config(run, otf={"steps": 10_000_000, "walkers": [{"ensemble": "nve"}]}, training={"min_new_labels": 1})
    autopipe("otf", "start", "-C", run)
    wait_until(lambda: any(w["step"] > 0 for w in status(run)["walkers"]), "no MD")
    autopipe("otf", "stop", "-C", run)
    assert processes_of(run) == []
    step = status(run)["walkers"][0]["step"]
    assert 0 < step < 10_000_000
    finished = results_of(run)
    edit_config(run, otf={"steps": step + 2000})
    assert autopipe("otf", "start", "-C", run, "--foreground").returncode == 0
    (walker,) = status(run)["walkers"]
    assert (walker["state"], walker["step"]) == ("done", step + 2000)
    starts = happened(run, "md_started")
    assert len(starts) == 1, "the run began anew instead of going on"
    after = results_of(run)
    assert {task: after[task] for task in finished} == finished
