"""Eight walkers, two of which never get a label: the others finish, nothing waits for ever (issue 5, Must show 1)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import psutil
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from running import AUTOPIPE, autopipe, edit_config, merged_events, processes_of, status

from mlip_autopipec.store.walkerstate import read_all

pytestmark = pytest.mark.flow

GOOD, DOOMED = 6, 2
BUSY = 0.85
_LOOK_S = 0.5


def cell(seed: int, *, copper: bool, amplitude: float = 0.12) -> Atoms:
    """A labelled 32-atom cell, rattled."""
    rng = np.random.default_rng(seed)
    atoms = bulk("Al", a=4.05 if not copper else 3.95, cubic=True).repeat(2)
    if copper:
        atoms.symbols[::4] = "Cu"
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + rng.uniform(-0.03, 0.03, (3, 3))), scale_atoms=True)
    atoms.positions += rng.normal(scale=amplitude * rng.uniform(0.3, 1.0), size=(32, 3))
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def free_atom(element: str) -> float:
    atoms = Atoms(element, cell=[20.0] * 3, pbc=True)
    atoms.calc = EMT()
    return float(atoms.get_potential_energy())


def make_run(run: Path, *, steps: int, repeat: int, **otf: Any) -> None:
    """Write a run of six aluminium walkers and two with copper, of which no cell is ever labelled."""
    start = run / "start"
    start.mkdir(parents=True)
    ase.io.write(start / "dataset.extxyz", [cell(seed, copper=seed % 2 == 0) for seed in range(40)])
    pure, alloy = (bulk("Al", a=a, cubic=True).repeat(repeat) for a in (4.05, 3.95))
    # Ordered: the dataset knows it, and MD begins before it halts.
    alloy.symbols[::4] = "Cu"
    ase.io.write(start / "pure.extxyz", pure)
    ase.io.write(start / "alloy.extxyz", alloy)
    walkers: list[dict[str, Any]] = [{"temperature": 700 + 100 * k} for k in range(GOOD)]
    walkers += [{"temperature": 1500, "structure": "start/alloy.extxyz"}] * DOOMED
    config = {
        "start": {"structure": "start/pure.extxyz", "dataset": "start/dataset.extxyz"},
        "labeller": {"engine": "ase", "calculator": "doomed.DoomedEMT"},
        "otf": {"steps": steps, "timestep": 2.0, "walkers": walkers, "audit_fraction": 0.0, **otf},
        "embedding": {"cutoff": 3.2, "buffer_size": 2.4, "max_core_force_error": None, "whole_cell_fraction": 0.0},
        "training": {
            "cutoff": 5.0, "nradmax_by_orders": [8, 3, 2], "lmax_by_orders": [0, 2, 1], "min_new_labels": 2,
            "reference_energies": {element: free_atom(element) for element in ("Al", "Cu")},
        },
    }  # fmt: skip
    (run / "autopipe.yaml").write_text(yaml.safe_dump(config))


@dataclass
class Meter:
    """CPU time of a run's processes, and of the whole box, from the first MD step on while MD remains.

    Attributes
    ----------
    used, idle : CPU-seconds of the run, and of nobody
    others : of whoever else was there; what a hypervisor took away counts for nothing
    seconds : of wall time
    moving : (s since the start, walkers that have not ended)
    """

    run: Path
    used: float = 0.0
    idle: float = 0.0
    others: float = 0.0
    seconds: float = 0.0
    moving: list[tuple[float, int]] = field(default_factory=list)
    _last: tuple[float, float, float, dict[tuple[int, float], float]] | None = None

    @property
    def share(self) -> float:
        """Of the CPU time that was to be had (others may have used the box, too), what the run used."""
        return self.used / (self.used + self.idle)

    def look(self) -> None:
        """Add what has passed since the last look, if MD remained."""
        states = [state for state in read_all(self.run / "walkers") if state.state != "starting"]
        remaining = GOOD + DOOMED - sum(state.ended for state in states)
        box = psutil.cpu_times()
        idle, busy = box.idle + box.iowait, box.user + box.nice + box.system + box.irq + box.softirq
        now = (time.monotonic(), idle, busy, self._cpu())
        if self._last is not None and states and remaining:
            # Of a process that ended in between, the last moment is lost.
            used = sum(seconds - self._last[3].get(key, 0.0) for key, seconds in now[3].items())
            self.used += used
            self.idle += idle - self._last[1]
            self.others += busy - self._last[2] - used
            self.seconds += now[0] - self._last[0]
            self.moving.append((self.seconds, remaining))
        self._last = now

    def _cpu(self) -> dict[tuple[int, float], float]:
        found = {}
        for process in _family(self.run):
            try:
                found[process.pid, process.create_time()] = sum(process.cpu_times()[:2])
            except psutil.NoSuchProcess:
                continue
        return found


def _family(run: Path) -> Iterator[psutil.Process]:
    for process in psutil.Process().children(recursive=True):
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.NoSuchProcess:
            continue


def walk(run: Path, monkeypatch: pytest.MonkeyPatch, *, timeout_s: float) -> Meter:
    """Run it to its end, which must come by itself."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    meter, deadline = Meter(run), time.monotonic() + timeout_s
    with (run / "out.txt").open("wb") as out:
        command = [str(AUTOPIPE), "otf", "start", "-C", str(run), "--foreground"]
        with subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT) as supervisor:
            while supervisor.poll() is None:
                if time.monotonic() > deadline:
                    supervisor.terminate()
                    supervisor.wait(60)
                    pytest.fail(f"it does not end: {status(run)['walkers']}")
                meter.look()
                time.sleep(_LOOK_S)
    print((run / "out.txt").read_text()[-3000:])
    assert supervisor.returncode == 3  # two walkers need a person, and it says so
    return meter


def check(run: Path, steps: int) -> None:
    facts = status(run)
    walkers = facts["walkers"]
    assert [(w["state"], w["step"]) for w in walkers[:GOOD]] == [("done", steps)] * GOOD
    assert [w["state"] for w in walkers[GOOD:]] == ["stuck"] * DOOMED
    assert all("task failed" in w["reason"] for w in walkers[GOOD:])
    queue = facts["queue"]
    assert queue["failed"] > 0
    assert queue["pending"] == queue["running"] == queue["delayed"] == 0
    assert "no label for copper" in next((run / "queue" / "dft" / "failed").glob("*.reason")).read_text()
    names = {walker["name"] for walker in walkers[:GOOD]}
    healed = {e["walker"] for e in merged_events(run) if e["event"] == "gamma_exceeded"} & names
    assert healed, "no walker that finished ever had to wait"
    assert processes_of(run) == []


def test_two_of_eight_walkers_never_get_a_label_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    make_run(run, steps=300, repeat=2, while_waiting="continue_other_region")
    walk(run, monkeypatch, timeout_s=300)
    check(run, 300)


@pytest.mark.slow
@pytest.mark.parametrize("pastime", ["park", "continue_other_region"])
def test_the_box_is_busy_while_md_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pastime: str) -> None:
    """On two cores; the threads of eight walkers are one each."""
    run = tmp_path / "run"
    make_run(run, steps=40_000, repeat=3, while_waiting=pastime)
    meter = walk(run, monkeypatch, timeout_s=1500)
    whole = meter.used / (meter.used + meter.idle + meter.others)
    moving = meter.moving[:: max(1, len(meter.moving) // 20)]
    print(f"{pastime}: {meter.used:.0f} CPU-s used, {meter.idle:.0f} idle, {meter.others:.0f} of others in")
    print(f"{meter.seconds:.0f} s while MD remained: {meter.share:.1%}, {whole:.1%} of all; walkers at work: {moving}")
    check(run, 40_000)
    assert meter.share > BUSY


@pytest.mark.slow
def test_a_budget_ends_the_run_and_more_of_it_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    autopipe("init", run, "--example", "lj2d")
    edit_config(run, otf={"steps": 2000, "walkers": [{"ensemble": "nve"}, {"ensemble": "nve"}]}, end={"labels": 61})
    assert autopipe("otf", "start", "-C", run, "--foreground").returncode == 0
    facts = status(run)
    assert facts["workflow"]["phase"] == "done"
    assert facts["labels"] >= 61  # 60 to begin with, and what the collision asked for: it still landed
    assert facts["queue"]["pending"] == facts["queue"]["running"] == 0
    assert {walker["state"] for walker in facts["walkers"]} == {"done"}
    stopped = [walker for walker in facts["walkers"] if walker["step"] < 2000]
    assert stopped
    assert all("end.labels: 61" in walker["reason"] for walker in stopped)
    edit_config(run, end={"labels": None})
    assert autopipe("otf", "start", "-C", run, "--foreground").returncode == 0
    assert [(w["state"], w["step"]) for w in status(run)["walkers"]] == [("done", 2000)] * 2
    assert processes_of(run) == []
