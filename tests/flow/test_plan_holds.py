"""What `init --dry-run` promises is what a run then takes, within a factor of two (issue 8, Must show 6)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from running import autopipe, status

pytestmark = [pytest.mark.flow, pytest.mark.slow]


@pytest.mark.parametrize("formula", ["Al", "CuAu"])
def test_labels_and_core_hours(formula: str, tmp_path: Path) -> None:
    run = tmp_path / formula
    words = ("init", formula, run, "--labeller", "teacher")
    plan = json.loads(autopipe(*words, "--dry-run", "--json").stdout)
    autopipe(*words)
    autopipe("otf", "start", "-C", run, "--foreground", timeout=1700)
    costs = json.loads(autopipe("dft", "costs", "-C", run, "--json").stdout)
    facts = status(run)
    spent = costs["core_s"] / 3600
    states = [walker["state"] for walker in facts["walkers"]]
    print(f"{formula}: planned {plan['labels']}, {plan['core_hours']:.2g} core-hours")
    print(f"{formula}: took {costs['labels']} labels, {spent:.2g} core-hours; {states}")
    assert facts["workflow"]["phase"] == "done"
    assert plan["labels"]["all"] / 2 <= costs["labels"] <= 2 * plan["labels"]["all"]
    assert plan["core_hours"] / 2 <= spent <= 2 * plan["core_hours"]
