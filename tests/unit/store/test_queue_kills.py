"""Real workers that are killed in the middle of anything: nothing is lost, nothing is labelled twice."""

import json
import subprocess
import sys
from pathlib import Path

LAB = Path(__file__).with_name("queue_crash_lab.py")


def run_lab(folder, n_tasks, kills, mode):
    done = subprocess.run(
        [sys.executable, str(LAB), str(folder), str(n_tasks), str(kills), mode],
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(report):
    done = {"pending": 0, "delayed": 0, "held": 0, "running": 0, "failed": 0, "cancelled": 0, "corrupt": 0}
    assert report["errors"] == []
    assert report["results"] == report["tasks"]
    assert report["files"] == {**done, "done": report["tasks"]}
    assert report["in_one_place"]
    assert report["two_firsts"] == 0


def test_children_of_a_supervisor_killed_in_mid_work(tmp_path):
    report = run_lab(tmp_path, 200, 60, "supervised")
    check(report)
    assert report["starts"] <= report["tasks"] + report["kills"] + report["again"]


def test_kills_zombies_and_thieves_with_nothing_but_leases(tmp_path):
    report = run_lab(tmp_path, 100, 40, "leases")
    check(report)
    assert report["temporary"] == []
