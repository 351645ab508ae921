"""Production in real LAMMPS: one version from start to end, resumed after any kill, with gamma counted and told."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from apart import apart
from mlip_autopipec.config import Config, load
from mlip_autopipec.core.errors import ConfigError, ModelError, NotFoundError
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.daemons.production import Order, ProductionRun, order
from mlip_autopipec.daemons.productionchild import build_production_walker
from mlip_autopipec.daemons.productionwalker import ProductionWalker
from mlip_autopipec.monitor.production import report, report_of
from mlip_autopipec.runtime.child import Result
from mlip_autopipec.runtime.room import Room
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.store.production import read_walker, write_production
from mlip_autopipec.store.rundir import RunDirectory
from small_potentials import fit_emt, publish_fit

OTF = {"steps": 100, "snapshot_interval": 25, "check_frequency": 10, "temperature": 400, "threads": 1}
WALKERS = [{"ensemble": "nvt"}, {"ensemble": "npt", "pressure_coupling": "aniso"}, {"ensemble": "nve", "steps": 60}]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> Path:
    return fit_emt(tmp_path_factory.mktemp("fit"), ("Al",))


def configure(run: RunDirectory, **otf: Any) -> Config:
    data = {
        "start": {"structure": "start.extxyz", "dataset": "start.extxyz"},
        "labeller": {"engine": "teacher", "model": "emt"},
        "otf": {**OTF, "walkers": WALKERS, **otf},
    }
    run.config_file.write_text(dump_mapping(data))
    return load(run)


@pytest.fixture
def run(tmp_path: Path, fitted: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.create()
    ase.io.write(run.root / "start.extxyz", bulk("Al", a=4.05, cubic=True).repeat(2))
    publish_fit(run, fitted)
    publish_fit(run, fitted)
    return run


def walker(run: RunDirectory, config: Config, wanted: Order, name: str = "w00") -> ProductionWalker:
    (plan,) = (plan for plan in wanted.plans if plan.name == name)
    (wanted.folder / name).mkdir(parents=True, exist_ok=True)
    return build_production_walker(run, config, plan, wanted.production, wanted.folder / name)


def live(made: ProductionWalker, most: int = 1000) -> bool:
    """Let it live for so many steps of the daemon; True if it came to its end."""
    made.start()
    done = any(made.step(float(number)) is Outcome.DONE for number in range(most))
    made.close()
    return done


def frames(made: ProductionWalker) -> list[Atoms]:
    found = ase.io.read(made.trajectory.path, index=":")
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("name", ["w00", "w01", "w02"])
def test_a_killed_production_is_the_undisturbed_one(run: RunDirectory, tmp_path: Path, name: str) -> None:
    """Also after SIGTERM between two frames: nvt, npt and nve go on within 1e-9, and no frame is there twice."""
    config = configure(run, npt_without_stress=True)
    wanted = order(run, config, None, [], None)
    undisturbed = walker(run, config, wanted, name)
    assert live(undisturbed)
    other = Order(run.production / "killed", wanted.production, wanted.plans)
    looks = []
    for number, how in enumerate(("kill", "drain", "kill", "kill")):
        made = walker(run, config, other, name)
        made.start()
        for _ in range(number + 1):
            made.step(0.0)
        if how == "drain":
            made.drain()
            assert made.step(0.0) is Outcome.DONE
            assert made.state.step == made.status()[1]["step"]
        made.close()
        looks.append(made.state.looks)
    last = walker(run, config, other, name)
    assert live(last)
    assert looks == sorted(looks)
    steps = 60 if name == "w02" else 100
    expected = list(range(0, steps + 1, 30))  # gamma is looked at every 10 steps: a frame only there
    for made in (undisturbed, last):
        assert (made.state.state, made.state.step, made.state.frames) == ("done", steps, len(expected))
        assert made.state.looks == steps // 10 + 1
        assert [f.info["step"] for f in frames(made)] == expected
    for a, b in zip(frames(undisturbed), frames(last), strict=True):
        assert apart(a, b) < 2e-8  # as they are written: eight digits
        assert np.abs(a.get_momenta() - b.get_momenta()).max() < 2e-8
        assert a.info["version"] == "v0002"
        assert np.isfinite(a.arrays["gamma"]).all()


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


def test_a_kill_between_any_two_writes_loses_and_doubles_nothing(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configure(run, walkers=1, snapshot_interval=10, steps=30)
    wanted, real = order(run, config, None, [], None), os.replace
    number, survived = 0, False
    while not survived:
        number += 1
        other, calls = Order(run.production / str(number), wanted.production, wanted.plans), iter(range(1000))

        def replaced(source: Any, target: Any, calls: Iterator[int] = calls, at: int = number) -> None:
            call = next(calls)
            if call == 2 * at:
                raise Killed
            real(source, target)
            if call == 2 * at + 1:
                raise Killed

        made = walker(run, config, other)
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replaced)
            try:
                survived = live(made)
            except Killed:
                made.close()
        made = walker(run, config, other)
        assert live(made)
        assert [f.info["step"] for f in frames(made)] == [0, 10, 20, 30], number
        assert (made.state.state, made.state.looks, made.state.frames) == ("done", 4, 4)
    assert number > 3


def test_gamma_above_the_level_halts_nothing_and_is_told(run: RunDirectory, caplog: pytest.LogCaptureFixture) -> None:
    config = configure(run, uncertainty_threshold=1.0001, temperature=4000.0, walkers=1)
    wanted = order(run, config, None, [], None)
    made = walker(run, config, wanted)
    assert live(made)
    state = made.state
    assert (state.state, state.step) == ("done", 100)
    assert 0 < state.above <= state.looks == 11
    assert state.gamma is not None
    assert state.first_above is not None
    assert state.last_above is not None
    assert state.first_above <= state.last_above
    assert caplog.text.count("extrapolates") == 1
    write_production(wanted.folder, wanted.production)
    (line,) = report_of(wanted.folder, wanted.production)["warnings"]
    assert line.startswith(f"w00: gamma above 1.0001 at {state.above} of 11 looks, steps {state.first_above} to ")
    in_frames = [float(f.arrays["gamma"].max()) for f in frames(made)]
    assert max(in_frames) <= state.gamma + 1e-7
    assert max(in_frames) > 1.0001
    assert not (run.queue / "dft").exists()


def test_more_steps_go_on_and_fewer_do_nothing(run: RunDirectory) -> None:
    config = configure(run, walkers=1)
    for steps, made_steps in ((40, 40), (90, 90), (20, 90)):
        wanted = order(run, config, None, [], steps)
        write_production(wanted.folder, wanted.production)
        made = walker(run, config, wanted)
        assert live(made)
        assert (made.state.step, made.state.state) == (made_steps, "done")
    assert [f.info["step"] for f in frames(made)] == [0, 30, 60, 90]


def test_more_steps_are_not_done_before_they_are_made(run: RunDirectory) -> None:
    """An end before the first new frame, by SIGTERM say, leaves a production that is to be gone on with."""
    config = configure(run, walkers=1)
    wanted = order(run, config, None, [], 30)
    production = ProductionRun(run, config, wanted, print)
    production.start()
    assert live(walker(run, config, wanted))
    again = ProductionRun(run, config, order(run, config, None, [], 60), print)
    again.start()
    state = read_walker(wanted.folder / "w00")
    assert state is not None
    assert (state.state, state.step, state.steps) == ("running", 30, 60)
    again._left(again.seats[0], Result(value=0), 0.0)
    assert not again.seats[0].ended
    again.drain()
    assert again.step(0.0) is Outcome.DONE
    assert (again.ending(signal.SIGTERM), again.ending(signal.SIGINT)) == (75, 130)


def test_a_walker_that_always_dies_is_given_up(run: RunDirectory) -> None:
    config = configure(run, walkers=1)
    said: list[str] = []
    production = ProductionRun(run, config, order(run, config, None, [], None), said.append)
    production.start()
    for number in range(3):
        assert not production.seats[0].ended, number
        production._left(production.seats[0], Result(value=70), 0.0)
    assert production.step(1.0) is Outcome.DONE
    assert production.ending(None) == 3
    assert "exit code 70; see logs/produce-v0002-w00.log" in said[0]


def test_a_production_has_one_set_of_conditions(run: RunDirectory) -> None:
    config = configure(run)
    wanted = order(run, config, "v0001", ["w00"], 50)
    write_production(wanted.folder, wanted.production)
    both = order(run, configure(run, temperature=400, uncertainty_threshold=9.0), "v0001", ["w02"], None)
    assert set(both.production.walkers) == {"w00", "w02"}
    assert both.production.halt_level == wanted.production.halt_level
    with pytest.raises(ConfigError, match=r"v0001: began with walkers\.w00\.temperature 400\.0, now it is 500\.0"):
        order(run, configure(run, temperature=500), "v0001", ["w00"], None)
    with pytest.raises(ConfigError, match="frame_every 30, now it is 50"):
        order(run, configure(run, snapshot_interval=50), "v0001", ["w00"], None)


def test_what_cannot_be_produced(run: RunDirectory) -> None:
    config = configure(run)
    with pytest.raises(NotFoundError, match="no version v0009"):
        order(run, config, "v0009", [], None)
    with pytest.raises(NotFoundError, match="w07: no such walker"):
        order(run, config, None, ["w07"], None)
    manifest = run.potentials / "v0002" / "manifest.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**told, "stress_labels": 0}))
    with pytest.raises(ModelError, match="w01 waits for npt: labels with stress"):
        order(run, config, None, [], None)
    (run.potentials / "v0001" / "potential.yaml").write_text("")
    with pytest.raises(ModelError, match=r"v0001: potential\.yaml is not what was published"):
        order(run, config, "v0001", [], None)


def test_without_room_it_waits_and_goes_on(run: RunDirectory) -> None:
    config = configure(run, walkers=1)
    made = walker(run, config, order(run, config, None, [], None))
    free, clock = [0.0], iter(range(0, 10**6, 10))
    made._room = Room(run.root, 1.0, free=lambda _: int(free[0]), monotonic=lambda: float(next(clock)))
    made.start()
    assert [made.step(0.0) for _ in range(3)] == [Outcome.IDLE] * 3
    assert "retention.min_free_gb" in made.status()[1]["waiting_for"]
    free[0] = 5e9
    assert live(made)
    assert made.state.step == 100


def test_md_that_breaks_down_ends_with_the_reason(run: RunDirectory) -> None:
    config = configure(run, walkers=[{"timestep": 20.0, "temperature": 20_000.0, "ensemble": "nve"}])
    wanted = order(run, config, None, [], None)
    write_production(wanted.folder, wanted.production)
    made = walker(run, config, wanted)
    assert live(made)
    state = read_walker(wanted.folder / "w00")
    assert state is not None
    assert state.state == "failed"
    assert "broke down" in state.reason
    damaged: list[str] = []
    (facts,) = report(run, damaged)
    assert facts["walkers"][0]["state"] == "failed"
    assert any("w00 failed" in line for line in facts["warnings"])
    assert not damaged
