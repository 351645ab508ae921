"""seeds -> explorer -> picks -> labels -> v0001 -> OTF halt -> label -> v0002, all daemons as processes (issue 8)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from ase.build import bulk
from running import autopipe, merged_events, processes_of, status

from mlip_autopipec.store.dataset import Dataset
from mlip_autopipec.store.exploration import SelectionRecord, explored_results
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory

pytestmark = pytest.mark.flow

PICKS = 14


def make_run(run: Path) -> None:
    """Copper by EMT: cold solids are all that the run is given; one walker is hot and must halt."""
    start = run / "start"
    start.mkdir(parents=True)
    seeds, rng = [], np.random.default_rng(3)
    for kind in ("bulk", "bulk", "vacancy"):
        atoms = bulk("Cu", a=3.61, cubic=True).repeat(2)
        if kind == "vacancy":
            del atoms[0]
        atoms.positions += rng.normal(scale=0.02, size=atoms.positions.shape)
        atoms.info["config_type"] = kind
        seeds.append(atoms)
    ase.io.write(start / "seeds.extxyz", seeds)
    ase.io.write(start / "structure.extxyz", bulk("Cu", a=3.61, cubic=True).repeat(2))
    config: dict[str, Any] = {
        "start": {"structure": "start/structure.extxyz", "dataset": "start/seeds.extxyz"},
        "explore": {
            "surrogate": {"kind": "emt"}, "temperatures": [100, 400], "pressures_bar": [0], "steps": 40, "stride": 10,
            "trajectories": 5, "picks": PICKS,
        },
        "labeller": {"engine": "teacher", "model": "emt"},
        "otf": {
            "steps": 60, "timestep": 2.0, "check_frequency": 5, "audit_fraction": 0.0, "max_extractions": 3,
            "walkers": [{"temperature": 300}, {"temperature": 2500}],
        },
        "embedding": {"cutoff": 3.0, "buffer_size": 2.0, "max_core_force_error": None, "whole_cell_fraction": 0.0},
        "training": {
            "cutoff": 4.5, "nradmax_by_orders": [8, 3], "lmax_by_orders": [0, 2], "min_initial_labels": PICKS,
            "min_new_labels": 1,
        },
    }  # fmt: skip
    (run / "autopipe.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("flow") / "bootstrap"
    make_run(run)
    done = autopipe("otf", "start", "-C", run, "--foreground", check=False)
    print(done.stdout, done.stderr)
    assert done.returncode in (0, 3)
    return run


def test_the_bootstrap_closes_by_itself(ended: Path) -> None:
    run = RunDirectory(ended)
    records = [explored_results(run).read(task_id) for task_id in explored_results(run).ids()]
    assert len(records) == 5
    assert {record["n_frames"] for record in records} == {4}
    assert {record["task"]["labeller"]["pressure_bar"] for record in records} == {None, 0.0}
    selection = SelectionRecord.read(run)
    assert selection is not None
    assert selection.published
    assert len(selection.picks) == PICKS
    assert {pick.config_type for pick in selection.picks} == {"bulk", "vacancy"}
    assert set(Results(run.results).ids()) >= {pick.task_id for pick in selection.picks}


def test_the_first_version_is_of_the_picks_and_the_second_of_a_halt(ended: Path) -> None:
    selection = SelectionRecord.read(RunDirectory(ended))
    assert selection is not None
    picked = {pick.task_id for pick in selection.picks}
    first, second = (json.loads((ended / "potentials" / v / "manifest.json").read_text()) for v in ("v0001", "v0002"))
    assert set(first["task_ids"]) <= picked
    halted = {task for e in merged_events(ended) if e["event"] == "gamma_exceeded" for task in e["task_ids"]}
    assert set(second["new_task_ids"]) & halted
    dataset = Dataset(ended / "dataset.db")
    explored = [dataset.row(pick.task_id) for pick in selection.picks if pick.source != "seed"]
    assert explored
    for row in explored:
        assert row is not None
        assert explored_results(RunDirectory(ended)).exists(row.origin["parent"])


def test_the_story_is_told_in_order_and_nothing_is_left_behind(ended: Path) -> None:
    names = [event["event"] for event in merged_events(ended)]
    story = ("exploration_published", "explored", "picked", "version_published", "md_started", "gamma_exceeded")
    found = [names.index(name) for name in story]
    assert found == sorted(found)
    assert names.count("explored") == 5
    facts = status(ended)
    assert facts["workflow"]["phase"] in ("done", "stuck")
    assert facts["workflow"]["bootstrap"] == ""
    assert facts["workflow"]["generation"] >= 2
    assert processes_of(ended) == []
