"""The loop with real DFT: pw.x labels carved cells of aluminium (issue 2, second flow)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from running import autopipe, edit_config, processes_of, status

pytestmark = [pytest.mark.flow, pytest.mark.slow]


def test_pw_x_labels_carved_cells_in_the_loop(pw_x: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    autopipe("init", run, "--example", "al-espresso")
    # One region for each walker: each is minutes of DFT here.
    edit_config(run, otf={"max_extractions": 1})
    autopipe("otf", "start", "-C", run, "--foreground", timeout=7200)
    facts = status(run)
    assert facts["workflow"]["phase"] == "done"
    carved = []
    for file in (run / "results").rglob("*.json"):
        result = json.loads(file.read_text())
        if result["task"]["config_type"] != "active_learning":
            continue
        species = result["task"]["structure"]["species"]
        forces = np.array(result["forces"])
        assert len(species) <= 34
        assert forces.shape == (len(species), 3)
        assert np.abs(forces.sum(axis=0)).max() < 0.05  # pw.x takes the net force out; this is a real calculation
        assert result["info"]["engine"] == "espresso"
        carved.append(result["id"])
    print(f"{len(carved)} carved cells labelled by pw.x, versions {[v['version'] for v in facts['versions']]}")
    assert len(carved) >= 2
    assert set(carved) <= set(
        json.loads((run / "potentials" / facts["current"] / "manifest.json").read_text())["task_ids"]
    )
    assert processes_of(run) == []
