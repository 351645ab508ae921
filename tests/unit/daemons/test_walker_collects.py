"""A whole walker on a real potential in LAMMPS: it collects, audits and follows the calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import pytest
from ase.build import bulk

from mlip_autopipec.config import Config, parse
from mlip_autopipec.core.events import read_events
from mlip_autopipec.daemons.otf_runner import build_walker
from mlip_autopipec.daemons.queues import dft_queue
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.calibration import Calibration, write_calibration
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task
from small_potentials import fit_emt


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_emt(tmp_path_factory.mktemp("potential"), ["Al"])


class World:
    """A started run with one version, so that walkers can move."""

    def __init__(self, root: Path, fitted: Path, **otf: Any) -> None:
        self.run = RunDirectory(root)
        self.run.create()
        self.run.start.mkdir()
        ase.io.write(self.run.start / "structure.extxyz", bulk("Al", cubic=True) * (3, 3, 3))
        registry = Registry(self.run.potentials)
        work = registry.new_work_folder()
        for name in FILES:
            source = fitted / name
            (work / name).write_bytes(source.read_bytes() if source.exists() else b"{}")
        registry.publish(work, {"task_ids": []})
        defaults = {"steps": 300, "temperature": 900, "snapshot_interval": 50, "threads": 1, "timestep": 2.0}
        self.config: Config = parse(
            {
                "start": {"structure": "start/structure.extxyz", "dataset": "start/structure.extxyz"},
                "labeller": {"engine": "teacher", "model": "emt"},
                "otf": {**defaults, "uncertainty_threshold": 1e5, "audit_fraction": 0.0, **otf},
                "embedding": {"cutoff": 3.0, "buffer_size": 2.2},
                "queue": {"fsync": False},
            },
            self.run.config_file,
        )
        self.queue = dft_queue(self.run, self.config.queue, worker="test")

    def walker(self) -> Any:
        (plan,) = walker_plans(self.config.otf)
        return build_walker(self.run, self.config, plan)

    def live(self, walker: Any, looks: int = 60) -> None:
        walker.start()
        now = 0.0
        for _ in range(looks):
            now += 3.0
            if walker.step(now) is Outcome.DONE or walker.healing.halt is not None:
                break

    def kinds(self) -> list[str]:
        return sorted(Task.read(path).config_type for _, _, _, path in self.queue.ls("pending"))


def test_candidates_and_audits_come_without_a_halt(tmp_path: Path, fitted: Path) -> None:
    world = World(tmp_path, fitted, selection_threshold=1.05, max_candidates=3, min_audits=3)
    walker = world.walker()
    world.live(walker)
    walker.close()
    assert (walker.state.state, walker.state.step) == ("done", 300)
    kinds = world.kinds()
    assert kinds.count("audit") == 3
    assert kinds.count("candidate") >= 1
    assert walker.state.extractions == kinds.count("candidate")
    events = {e["event"] for e in read_events(world.run.events / "w00.jsonl")}
    assert events == {"md_started", "task_published", "md_completed"}


def test_collecting_does_not_touch_the_trajectory(tmp_path: Path, fitted: Path) -> None:
    frames = []
    for name, otf in (("plain", {"max_candidates": 0}), ("busy", {"selection_threshold": 1.05, "min_audits": 5})):
        world = World(tmp_path / name, fitted, **otf)
        walker = world.walker()
        world.live(walker)
        walker.close()
        frames.append(ase.io.read(world.run.walker("w00") / "trajectory.extxyz.gz", index=":"))
    assert [f.info["step"] for f in frames[0]] == [f.info["step"] for f in frames[1]]
    assert all((a.positions == b.positions).all() for a, b in zip(*frames, strict=True))


def test_the_level_of_the_calibration_halts_a_running_walker(tmp_path: Path, fitted: Path) -> None:
    world = World(tmp_path, fitted, target_force_error=0.1, min_audits=0, steps=100_000)
    walker = world.walker()
    world.live(walker, looks=3)
    assert walker.healing.halt is None
    write_calibration(world.run.calibration, Calibration(version="v0001", target=0.1, level=0.01, reason="test"))
    world.live(walker, looks=3)
    walker.close()
    halt = walker.healing.halt
    assert halt is not None
    assert halt.gamma > 0.01
    assert walker.state.state == "halted"
