"""The whole otf-runner is killed: every walker goes on from its last snapshot, thermostat included."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import bulk

from mlip_autopipec.config import freeze, load
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import WalkerState, read_state
from small_potentials import fit_emt, publish_fit

STEPS, INTERVAL = 3000, 50
WALKERS: list[dict[str, Any]] = [
    {"ensemble": "nve"},
    {"ensemble": "nvt", "schedule": {"segments": [{"steps": STEPS, "temperature": [300, 600]}]}},
    {"ensemble": "npt", "pressure_coupling": "aniso"},
]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    return fit_emt(tmp_path_factory.mktemp("fit"), ("Al",))


def begun(root: Path, fitted: Path) -> RunDirectory:
    run = RunDirectory(root)
    run.create()
    ase.io.write(root / "start.extxyz", bulk("Al", a=4.05, cubic=True).repeat(3))
    otf = {
        "uncertainty_threshold": 1e6, "snapshot_interval": INTERVAL, "steps": STEPS, "walkers": WALKERS, "threads": 1,
        "max_candidates": 0, "audit_fraction": 0.0, "npt_without_stress": True, "temperature": 300,
    }  # fmt: skip
    data = {
        "start": {"structure": "start.extxyz", "dataset": "start.extxyz"},
        "labeller": {"engine": "teacher", "model": "emt"},
        "otf": otf,
    }
    run.config_file.write_text(dump_mapping(data))
    freeze(run, load(run))
    publish_fit(run, fitted)
    return run


def states(run: RunDirectory) -> list[WalkerState | None]:
    return [read_state(run.walker(f"w{k:02d}")) for k in range(len(WALKERS))]


def runner(run: RunDirectory, until: Callable[[], bool], number: signal.Signals) -> None:
    """Let an otf-runner work until something is so, then send it a signal."""
    command = [sys.executable, "-m", "autopipe_services.otf_runner", "-C", str(run.root)]
    with (run.logs / "runner.log").open("ab") as log, subprocess.Popen(command, stderr=log) as process:
        deadline = time.monotonic() + 180
        while not until():
            assert time.monotonic() < deadline, states(run)
            time.sleep(0.01)
        process.send_signal(number)


def ended(run: RunDirectory) -> bool:
    return all(state is not None and state.ended for state in states(run))


@pytest.mark.slow
def test_kills_of_the_whole_runner_change_no_trajectory(tmp_path: Path, fitted: Path) -> None:
    random.seed(5)
    undisturbed, killed = begun(tmp_path / "a", fitted), begun(tmp_path / "b", fitted)
    runner(undisturbed, lambda: ended(undisturbed), signal.SIGTERM)
    for part in (0.15, 0.4, 0.7):

        def far(part: float = part) -> bool:
            return all(s is not None and s.step > part * STEPS for s in states(killed))

        runner(killed, far, signal.SIGKILL)
        time.sleep(random.uniform(0.1, 0.5))  # its walkers end with it
        for state in states(killed):
            assert state is not None
            # What a kill costs; the step that was reached is told with every chunk of MD.
            assert state.step - state.snapshot_step <= INTERVAL
    runner(killed, lambda: ended(killed), signal.SIGTERM)
    for name in ("w00", "w01", "w02"):
        a, b = (ase.io.read(run.walker(name) / "trajectory.extxyz.gz", index=":") for run in (undisturbed, killed))
        assert [f.info["step"] for f in a] == [f.info["step"] for f in b] == list(range(0, STEPS + 1, INTERVAL))
        for one, other in zip(a, b, strict=True):
            assert np.abs(one.positions - other.positions).max() < 2e-8  # as they are written: eight digits
            assert np.abs(one.get_momenta() - other.get_momenta()).max() < 2e-8
            assert np.abs(one.cell.array - other.cell.array).max() < 2e-8
