"""A walker in real LAMMPS: it halts, waits, swaps, reseeds, gives up, and survives a kill between any two writes."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import select
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.core.events import EventLog, read_events
from mlip_autopipec.core.interfaces import Evaluation, Evaluator, Neighbourhood
from mlip_autopipec.daemons.branch import Branch
from mlip_autopipec.daemons.healing import Healing
from mlip_autopipec.daemons.otf_runner import make_md, md_settings
from mlip_autopipec.daemons.queues import dft_queue
from mlip_autopipec.daemons.walker import Walker
from mlip_autopipec.engines.lammps.settings import MDSettings
from mlip_autopipec.runtime.room import Room
from mlip_autopipec.runtime.serve import Outcome, Wakeful
from mlip_autopipec.runtime.wake import Waker
from mlip_autopipec.stages.carve import EmbeddingSettings
from mlip_autopipec.stages.watch import OtfSettings, walker_plans
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import QueueSettings, RetentionSettings
from mlip_autopipec.store.walkerstate import read_state, write_state
from small_potentials import LennardJones

THRESHOLD = 1.5


class Scaled(LennardJones):
    """Lennard-Jones whose gamma, (2.5 A / nearest distance)^6, is multiplied by `scale`."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        result = super().evaluate(frame, gamma=gamma)
        return result if result.gamma is None else replace(result, gamma=self.scale * result.gamma)


class KnowsSome(LennardJones):
    """Lennard-Jones that knows the first atoms by x and z, and is the less sure of the others the earlier they come."""

    def __init__(self, known: int) -> None:
        super().__init__()
        self.known = known

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        result = super().evaluate(frame, gamma=gamma)
        if result.gamma is not None:
            order = np.lexsort(frame.positions[: frame.n_owned, [2, 0]].round(3).T)
            result.gamma[order] = 100.0 - np.arange(frame.n_owned)
            result.gamma[order[: self.known]] = 0.5
        return result


class Holed(Scaled):
    """The same with a hole below 3.2 A, into which a pair falls and explodes."""

    def __init__(self, scale: float, force: float = 3000.0) -> None:
        super().__init__(scale)
        self.force = force

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        result = super().evaluate(frame, gamma=gamma)
        atoms = np.repeat(np.arange(frame.n_owned), np.diff(frame.first))
        vectors = frame.positions[frame.neighbours] - frame.positions[atoms]
        distances = np.linalg.norm(vectors, axis=1)
        forces = result.forces.copy()
        for k in np.flatnonzero(distances < 3.2):
            forces[atoms[k]] += self.force * vectors[k] / distances[k]
        return replace(result, forces=forces)


def collision() -> Atoms:
    """A pair on collision course, which comes as near as 3.06 A after some 100 steps of 2 fs, and two bystanders."""
    atoms = Atoms("Ar4", positions=[[10, 10, 10], [15, 10, 10], [3, 3, 3], [3, 3, 17]], cell=[22, 22, 22], pbc=True)
    atoms.set_velocities([[0.05, 0, 0], [-0.05, 0, 0], [0, 0, 0], [0, 0, 0]])
    return atoms


class World:
    """A run directory with one walker; what a version is good for is decided by the test."""

    def __init__(self, root: Path, evaluator_of: Callable[[str], LennardJones], **otf: Any) -> None:
        self.run = RunDirectory(root)
        self.run.create()
        self.folder = self.run.walker("w00")
        self.folder.mkdir()
        self.registry = Registry(self.run.potentials)
        self.evaluator_of = evaluator_of
        defaults = {"ensemble": "nve", "steps": 300, "check_frequency": 10, "snapshot_interval": 50, "timestep": 2.0}
        self.otf = OtfSettings(**{**defaults, "uncertainty_threshold": THRESHOLD, **otf})
        self.now = 0.0
        self.timesteps: list[float] = []  # of each MD engine that was made
        ase.io.write(root / "start.extxyz", collision())
        self.publish([])

    def publish(self, task_ids: list[str]) -> str:
        """Publish a version that contains these and all earlier labels."""
        versions = self.registry.versions()
        before = self.registry.manifest(versions[-1])["task_ids"] if versions else []
        work = self.registry.new_work_folder()
        for name in FILES:
            (work / name).write_text("{}")
        return self.registry.publish(work, {"task_ids": [*before, *task_ids]})

    def walker(self) -> Walker:
        (plan,) = walker_plans(self.otf)
        events = EventLog(self.run.events, "w00")
        healing = Healing(
            self.folder, "w00",
            embedding=EmbeddingSettings(
                cutoff=5.0, buffer_size=3.5, whole_cell_fraction=0.0, max_core_force_error=None
            ),
            threshold=self.otf.uncertainty_threshold,
            labeller={"engine": "teacher", "model": "lj"},
            queue=dft_queue(self.run, QueueSettings(fsync=False), worker="w00"),
            registry=self.registry, events=events, refused=set,
        )  # fmt: skip
        return Walker(
            self.folder, plan, self.otf,
            structure=self.run.root / "start.extxyz", healing=healing, registry=self.registry, events=events,
            make_evaluator=lambda folder: self.evaluator_of(folder.name),
            make_md=lambda evaluator, fraction: self.make_md(
                evaluator, md_settings(plan.model_copy(update={"timestep": plan.timestep * fraction}), self.otf, 3)
            ),
        )  # fmt: skip

    def make_md(self, evaluator: Evaluator, settings: MDSettings) -> Any:
        self.timesteps.append(settings.timestep_fs)
        return make_md(evaluator, settings, self.run.logs / "lammps.log")

    def live(self, walker: Walker, *, labels: bool = True, steps: int = 400) -> None:
        """Let the walker live; every halt's label comes in the next version at once."""
        walker.start()
        for _ in range(steps):
            self.now += 3.0
            if walker.step(self.now) is Outcome.DONE:
                return
            halt = walker.healing.halt
            if labels and halt is not None and all(walker.healing.queue.state(t) for t in halt.task_ids):
                contained = self.registry.manifest(self.registry.versions()[-1])["task_ids"]
                if not set(halt.task_ids) <= set(contained):
                    self.publish(halt.task_ids)

    def told(self) -> list[str]:
        return [e["event"] for e in read_events(self.run.events / "w00.jsonl")]

    def halts(self) -> list[dict[str, Any]]:
        return [json.loads(p.read_text()) for p in sorted((self.folder / "halts").glob("*.json"))]


def good(_version: str) -> LennardJones:
    return Scaled(1.0)  # gamma at most 0.3


def learns_at_once(version: str) -> LennardJones:
    return Scaled(20.0 if version == "v0001" else 1.0)


def never_learns(_version: str) -> LennardJones:
    return Scaled(1e4)  # even the start structure is above the threshold


def test_undisturbed_it_walks_to_the_end(tmp_path: Path) -> None:
    world = World(tmp_path, good)
    walker = world.walker()
    world.live(walker)
    assert (walker.state.state, walker.state.step, walker.state.extractions) == ("done", 300, 0)
    assert world.told() == ["md_started", "md_completed"]
    frames = ase.io.read(world.folder / "trajectory.extxyz.gz", index=":")
    assert [f.info["step"] for f in frames] == [0, 50, 100, 150, 200, 250, 300]
    assert all("gamma" in f.arrays for f in frames)


def test_a_halt_ends_by_a_swap_and_md_goes_on_from_the_safe_snapshot(tmp_path: Path) -> None:
    world = World(tmp_path, learns_at_once)
    walker = world.walker()
    world.live(walker)
    assert (walker.state.state, walker.state.step, walker.state.version) == ("done", 300, "v0002")
    assert world.told() == ["md_started", "gamma_exceeded", "task_published", "swapped", "md_completed"]
    (halt,) = world.halts()
    assert halt["ended"]["action"] == "swap"
    undisturbed = World(tmp_path / "other", good)
    undisturbed.live(undisturbed.walker())
    a, b = (ase.io.read(w.folder / "trajectory.extxyz.gz", index=-1) for w in (world, undisturbed))
    assert np.abs(a.positions - b.positions).max() < 1e-9  # the potential is the same: so is the trajectory


def test_a_waiting_walker_is_woken_by_a_version(tmp_path: Path) -> None:
    world = World(tmp_path, learns_at_once)
    walker = world.walker()
    assert isinstance(walker, Wakeful)
    with contextlib.closing(Waker(walker.wake_folder())) as waker:
        assert waker.arm()
        world.publish([])
        assert select.select([waker.fileno()], [], [], 10.0)[0]


def test_three_failed_healings_in_a_row_are_the_end(tmp_path: Path) -> None:
    world = World(tmp_path, never_learns)
    walker = world.walker()
    world.live(walker)
    assert walker.state.state == "stuck"
    assert "3 failed healings" in walker.state.reason
    # Every halt is of the start structure itself: the first one brought a label, which is not counted as a failure.
    assert [h["ended"]["action"] for h in world.halts()] == ["reseed", "reseed", "reseed", "stuck"]


def test_a_stuck_walker_that_is_revived_goes_on(tmp_path: Path) -> None:
    knows = {"scale": 1e4}
    world = World(tmp_path, lambda _: Scaled(knows["scale"]))
    world.live(world.walker())
    stuck = read_state(world.folder)
    assert stuck is not None
    assert stuck.state == "stuck"
    write_state(world.folder, replace(stuck, state="starting", reason="", reseeds=0))  # as the otf-runner does
    knows["scale"] = 1.0
    walker = world.walker()
    world.live(walker)
    assert (walker.state.state, walker.state.step) == ("done", 300)
    assert world.told().count("md_started") == 1


def test_a_version_that_was_set_aside_is_no_obstacle(tmp_path: Path) -> None:
    world = World(tmp_path, good)
    walker = world.walker()
    world.live(walker, steps=3)
    assert walker.state.version == "v0001"
    world.publish(["a" * 20])
    world.registry.set_aside("v0001")
    world.live(walker)
    assert (walker.state.state, walker.state.version) == ("done", "v0002")


def test_waiting_does_nothing_until_something_happens(tmp_path: Path) -> None:
    world = World(tmp_path, learns_at_once)
    walker = world.walker()
    world.live(walker, labels=False, steps=60)
    assert walker.state.state == "halted"
    assert walker.md is None
    assert walker.step(world.now) is Outcome.IDLE
    (task,) = walker.healing.halt.task_ids
    walker.healing.queue.cancel(task)
    world.live(walker, labels=False, steps=5)
    assert world.halts()[0]["ended"]["action"] == "reseed"  # no label will ever come
    assert "cancelled" in world.halts()[0]["ended"]["reason"]


def test_max_extractions_ends_the_walker(tmp_path: Path) -> None:
    world = World(tmp_path, never_learns, max_extractions=1)
    walker = world.walker()
    world.live(walker)
    assert (walker.state.state, walker.state.extractions) == ("done", 1)
    assert "max_extractions" in walker.state.reason


def test_a_start_structure_above_the_threshold_heals_label_by_label(tmp_path: Path) -> None:
    # Each version knows one atom more: as many labels as atoms, more than failed healings are allowed. A halt that its
    # label did not heal asks for up to three cells.
    world = World(tmp_path, lambda version: KnowsSome(int(version[1:]) - 1))
    walker = world.walker()
    world.live(walker)
    assert (walker.state.state, walker.state.step, walker.state.extractions) == ("done", 300, 2)
    assert {halt["step"] for halt in world.halts()} == {0}
    assert sum(len(halt["task_ids"]) for halt in world.halts()) == 4


def test_an_explosion_between_two_looks_becomes_a_question(tmp_path: Path) -> None:
    # gamma is above the threshold before the pair explodes near step 116, but not at the look at step 60.
    world = World(
        tmp_path, lambda v: Holed(6.0) if v == "v0001" else Scaled(1.0), check_frequency=60, snapshot_interval=60
    )
    walker = world.walker()
    world.live(walker)
    assert walker.state.state == "done"
    (halt,) = world.halts()
    assert 60 < halt["step"] < 116
    assert halt["ended"]["action"] == "swap"


def test_an_explosion_that_gamma_never_sees_ends_as_stuck(tmp_path: Path) -> None:
    world = World(tmp_path, lambda _: Holed(1e-3, force=1e7))
    atoms = collision()
    atoms.positions[1, 0] = 13.0  # in the hole from the beginning: new velocities must not save it
    ase.io.write(tmp_path / "start.extxyz", atoms)
    walker = world.walker()
    world.live(walker)
    assert walker.state.state == "stuck"
    assert "broke down" in walker.state.reason
    assert world.told().count("walker_stuck") == 1


def test_a_damaged_current_version_is_waited_out(tmp_path: Path) -> None:
    world = World(tmp_path, good)
    whole = (world.run.potentials / "current.json").read_text()
    (world.run.potentials / "current.json").write_text("")
    walker = world.walker()
    world.live(walker, steps=3)
    assert "damaged" in walker.state.waiting_for
    (world.run.potentials / "current.json").write_text(whole)
    world.live(walker, steps=4)
    assert walker.state.state == "running"
    (world.run.potentials / "current.json").write_text("")
    world.live(walker)
    assert walker.state.state == "done"


# --- frames beyond sense ------------------------------------------------------------------------------------------


def head_on(speed: float = 1.5) -> Atoms:
    """A pair so fast that it is squeezed to nothing between two looks at gamma."""
    atoms = collision()
    atoms.set_velocities([[speed, 0, 0], [-speed, 0, 0], [0, 0, 0], [0, 0, 0]])
    return atoms


def test_a_frame_beyond_sense_is_not_carved_but_an_earlier_one(tmp_path: Path) -> None:
    """At the look of step 15 two atoms are much nearer than any bond; with every step looked at, MD halts before."""
    # gamma is 1 where the pair is 2.5 A apart; the threshold is 1.5. Soft atoms, so that they come near at all.
    world = World(
        tmp_path, lambda v: Soft(1.0 if v == "v0001" else 1e-3), check_frequency=15, snapshot_interval=30, timestep=1.0,
        steps=60,
    )  # fmt: skip
    ase.io.write(tmp_path / "start.extxyz", head_on())
    walker = world.walker()
    world.live(walker)
    assert walker.state.state == "done"
    told = world.told()
    assert told[:4] == ["md_started", "rewound", "gamma_exceeded", "task_published"]
    rewound = next(e for e in read_events(world.run.events / "w00.jsonl") if e["event"] == "rewound")
    assert rewound["step"] == 15
    assert "apart" in rewound["reason"]
    (halt,) = world.halts()
    assert 0 < halt["step"] < 15
    assert 1.5 < halt["gamma"] < 15
    assert (world.folder / "excursions/beyond-sense-step15.extxyz").exists()


def test_a_gamma_far_above_is_asked_about_at_its_beginning(tmp_path: Path) -> None:
    world = World(
        tmp_path, lambda v: Scaled(1.0 if v != "v0001" else 6.0), check_frequency=60, snapshot_interval=60,
        sense={"gamma": 1.2},
    )  # fmt: skip
    walker = world.walker()
    world.live(walker)
    assert walker.state.state == "done"
    assert "rewound" in world.told()
    (halt,) = world.halts()
    assert 60 < halt["step"] < 120
    assert halt["gamma"] < 1.2 * THRESHOLD


class Soft(Scaled):
    """The same without forces: atoms fly through each other."""

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        result = super().evaluate(frame, gamma=gamma)
        zero = np.zeros_like(result.forces)
        return replace(result, energy=0.0, energies=zero[:, 0], forces=zero, virial=np.zeros(6))


def test_the_trajectory_keeps_the_accepted_branch_only(tmp_path: Path) -> None:
    """A snapshot that is no longer safe is left for an older one: what came after it goes to `excursions/`."""
    scale = {"now": 1.0}
    world = World(tmp_path, lambda _: Scaled(scale["now"]), snapshot_interval=20, steps=80, rewind_steps=60)
    walker = world.walker()
    world.live(walker, steps=6)
    assert walker.state.snapshot_step >= 60
    before = walker.state.snapshot_step
    walker.record.save(state="running", halted_step=before)
    walker._reseed("a new version halts at the last snapshot itself", [])
    assert walker.state.snapshot_step == before - 20
    world.live(walker)
    assert walker.state.state == "done"
    steps = [f.info["step"] for f in ase.io.read(world.folder / "trajectory.extxyz.gz", index=":")]
    assert steps == [0, 20, 40, 60, 80]
    (tail,) = (world.folder / "excursions").glob("tail-*.extxyz.gz")
    assert tail.name == f"tail-0001-after-step{before - 20}.extxyz.gz"
    assert [f.info["step"] for f in ase.io.read(tail, index=":")] == [before]


# --- what is on disk ---------------------------------------------------------------------------------------------


def test_a_trajectory_of_an_earlier_version_is_gone_on_with(tmp_path: Path) -> None:
    world = World(tmp_path, good)
    walker = world.walker()
    world.live(walker, steps=6)  # at most one snapshot each
    walker.close()
    stood, packed = walker.state.snapshot_step, world.folder / "trajectory.extxyz.gz"
    assert 0 < stood < 300
    (world.folder / "trajectory.extxyz").write_bytes(gzip.decompress(packed.read_bytes()))  # as it was once written
    packed.unlink()
    world.live(world.walker())
    frames = ase.io.read(packed, index=":")
    assert [f.info["step"] for f in frames] == [0, 50, 100, 150, 200, 250, 300]
    assert all("gamma" in f.arrays and f.info["version"] == "v0001" for f in frames)
    assert not (world.folder / "trajectory.extxyz").exists()


def test_a_frame_is_never_missing_and_never_there_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between frame, snapshot and state: the frame that no state names is put aside and made again."""
    real = os.replace
    for number, writes in enumerate((1, 2, 4, 5, 7, 8), start=1):
        world = World(tmp_path / str(number), good, steps=150)
        walker, left = world.walker(), iter(range(1000))

        def replaced(source: Any, target: Any, left: Iterator[int] = left, last: int = writes) -> None:
            if not Path(target).name.startswith("state") or next(left) < 2 * last:
                real(source, target)
            else:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replaced)
            with contextlib.suppress(Killed):
                world.live(walker)
        walker.close()
        world.live(world.walker())
        frames = ase.io.read(world.folder / "trajectory.extxyz.gz", index=":")
        assert [f.info["step"] for f in frames] == [0, 50, 100, 150], number


@pytest.mark.parametrize(("interval", "every", "expected"), [(25, 10, [0, 20, 40, 60]), (4, 10, [0, 10, 20, 30, 40])])
def test_snapshots_are_taken_where_gamma_is_looked_at(
    tmp_path: Path, interval: int, every: int, expected: list[int]
) -> None:
    world = World(tmp_path, good, snapshot_interval=interval, check_frequency=every, steps=expected[-1] + 5)
    walker = world.walker()
    world.live(walker)
    frames = ase.io.read(world.folder / "trajectory.extxyz.gz", index=":")
    assert [f.info["step"] for f in frames] == expected
    assert (walker.state.step, walker.state.snapshot_step) == (expected[-1] + 5, expected[-1])


def test_without_room_it_pauses_and_goes_on_by_itself(tmp_path: Path) -> None:
    """Labels land all the while: a new version is swapped in when there is room again, and no state is lost."""
    free, time = [5e9], iter(range(0, 10**9, 10))
    world = World(tmp_path, good)
    walker = world.walker()
    walker._room = Room(world.folder, 1.0, free=lambda _: int(free[0]), monotonic=lambda: float(next(time)))
    world.live(walker, steps=6)  # at most one snapshot each
    walker.record.settle()
    step = walker.state.step
    assert 0 < step < 300
    free[0] = 0.5e9
    written = {path: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}
    world.live(walker, steps=20)
    assert walker.state.step == step
    told = read_state(world.folder)
    assert told is not None
    assert told.waiting_for.startswith("room on the disk of")
    changed = {p.name for p in world.folder.rglob("*") if p.is_file() and written.get(p) != p.read_bytes()}
    assert changed == {"state.json"}
    world.publish(["a" * 20])
    free[0] = 2e9
    world.live(walker)
    assert (walker.state.state, walker.state.step, walker.state.version) == ("done", 300, "v0002")
    assert walker.state.waiting_for == ""
    frames = ase.io.read(world.folder / "trajectory.extxyz.gz", index=":")
    assert [f.info["step"] for f in frames] == [0, 50, 100, 150, 200, 250, 300]


def test_retention_bounds_what_a_walker_writes(tmp_path: Path) -> None:
    world = World(tmp_path, good, steps=600, snapshot_interval=20, rewind_steps=20)
    kept = RetentionSettings(snapshots=5, trajectory_gb=5e-6, excursions=2)
    walker = world.walker()
    walker.branch = Branch(world.folder, walker.record, world.otf, kept)
    (world.folder / "excursions").mkdir()
    for number in range(4):
        (world.folder / "excursions" / f"{number}.extxyz").write_text("")
        os.utime(world.folder / "excursions" / f"{number}.extxyz", (number, number))
    world.live(walker)
    assert (walker.state.state, walker.state.step) == ("done", 600)
    assert len(list((world.folder / "snapshots").iterdir())) == 5
    trajectory = world.folder / "trajectory.extxyz.gz"
    assert trajectory.stat().st_size <= 5000
    steps = [f.info["step"] for f in ase.io.read(trajectory, index=":")]
    assert 2 < len(steps) < 20
    assert steps == list(range(steps[0], 601, 20))
    assert sorted(p.name for p in (world.folder / "excursions").iterdir()) == ["2.extxyz", "3.extxyz"]


# --- schedules, density, stress -----------------------------------------------------------------------------------

RAMP = {"segments": [{"steps": 90, "temperature": [60, 300]}, {"steps": 60, "strain": {"zz": 0.02}}]}


def test_frames_of_a_given_up_branch_that_a_kill_left_are_put_aside_at_the_start(tmp_path: Path) -> None:
    world = World(tmp_path, good)
    walker = world.walker()
    world.live(walker, steps=12)
    stood = walker.state.snapshot_step
    frame = ase.io.read(world.folder / "trajectory.extxyz.gz", index=-1)
    frame.info["step"] = stood + 500
    walker.branch.trajectory.append(frame)
    walker.close()
    again = world.walker()
    again.start()
    frames = ase.io.read(world.folder / "trajectory.extxyz.gz", index=":")
    assert frames[-1].info["step"] == stood
    (tail,) = (world.folder / "excursions").glob("tail-*")
    assert ase.io.read(tail).info["step"] == stood + 500


def test_a_schedule_survives_a_kill_at_any_snapshot(tmp_path: Path) -> None:
    frames = []
    for number, killed_after in enumerate((None, 4, 9)):
        world = World(tmp_path / str(number), good, ensemble="nvt", temperature=60.0, schedule=RAMP)
        walker = world.walker()
        assert walker.plan.steps == 150
        if killed_after is not None:
            world.live(walker, steps=killed_after)
            walker.close()
            walker = world.walker()
        world.live(walker)
        assert (walker.state.state, walker.state.step, walker.state.temperature) == ("done", 150, 300.0)
        frames.append(ase.io.read(world.folder / "trajectory.extxyz.gz", index=-1))
    for other in frames[1:]:
        assert np.abs(frames[0].positions - other.positions).max() < 1e-9
        assert other.cell[2, 2] == pytest.approx(22 * 1.02)


def test_a_density_out_of_bounds_ends_the_walker_with_the_reason(tmp_path: Path) -> None:
    world = World(tmp_path, good, ensemble="npt", temperature=60.0, pressure=-3000.0, density_bounds=(0.02, 0.0245))
    walker = world.walker()
    world.live(walker)
    assert walker.state.state == "stuck"
    assert "g/cm^3" in walker.state.reason
    assert "otf.density_bounds" in walker.state.reason


def test_npt_waits_for_labels_with_stress(tmp_path: Path) -> None:
    world = World(tmp_path, good, ensemble="npt", temperature=60.0, steps=50)
    walker = world.walker()
    manifest = walker.registry.manifest
    has = {"v0001": 0, "v0002": 3}
    walker.registry.manifest = lambda version: {**manifest(version), "stress_labels": has[version]}  # type: ignore
    world.live(walker, steps=5)
    assert walker.state.step == 0
    assert walker.state.waiting_for.startswith("npt: labels with stress")
    assert "npt_without_stress" in walker.state.waiting_for
    world.publish([])
    world.live(walker)
    assert (walker.state.state, walker.state.step) == ("done", 50)


class Killed(BaseException):
    """Stands for SIGKILL: nothing after it runs."""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_between_any_two_writes_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    real, number, survived = os.replace, 0, False
    while not survived:
        number += 1
        world = World(tmp_path / str(number), learns_at_once, steps=150)
        left = number

        def replaced(source: Any, target: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0 or (left == 0 and when == "before"):  # what is written behind MD ends with it
                raise Killed
            real(source, target)
            if left == 0:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", replaced)
            walker = world.walker()
            try:
                world.live(walker)
                survived = left > 0
            except Killed:
                pass
            with contextlib.suppress(Killed):
                walker.close()
        world.registry.recover()  # the trainer's part
        walker = world.walker()
        world.live(walker)
        assert (walker.state.state, walker.state.step) == ("done", 150), number
        told = world.told()
        assert {"md_started", "gamma_exceeded", "swapped", "md_completed"} <= set(told), (number, told)
        assert [h["number"] for h in world.halts()] == [1], number
        assert walker.state.extractions == 1
        assert walker.healing.queue.counts()["pending"] == 1
    assert number > 10
