"""From a task to a record: windows that refuse, surprises that are kept, labels that are not computed twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.core.clock import SystemClock
from mlip_autopipec.core.errors import DataError, NotConverged, OutputUnreadable
from mlip_autopipec.core.interfaces import Label, Labeller
from mlip_autopipec.core.windows import LabelRange
from mlip_autopipec.engines.teachers.labeller import TeacherLabeller
from mlip_autopipec.engines.teachers.settings import TeacherSettings
from mlip_autopipec.stages.label import Judge, LabellingSettings, label_task
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.task import Task
from mlip_autopipec.store.twins import Twins

NOW = "2026-01-01T00:00:00.000Z"
EMT = TeacherSettings(model="emt")


class Counting:
    """The teacher, and how often it was asked; `noise` is what a tighter computation changes, eV."""

    name = "counting"

    def __init__(self, noise: float = 0.0, moments: list[float] | None = None, tight: bool = False) -> None:
        self.calls = 0
        self.noise = noise
        self.moments = moments
        self.tight = tight
        self.teacher = TeacherLabeller(EMT)

    def label(self, atoms: Atoms, folder: Path) -> Label:
        self.calls += 1
        label = self.teacher.label(atoms, folder)
        info: dict[str, Any] = {"tight": self.tight, "seconds": 3.0, "cores": 4}
        if self.moments is not None:
            info["moments"] = self.moments
        return Label(label.energy + (self.noise if self.tight else 0.0), label.forces, label.stress, info)

    def check_elements(self, symbols: Any) -> None: ...

    def isolated_atom_energy(self, element: str, folder: Path) -> float:
        return self.teacher.isolated_atom_energy(element, folder)

    def tighter(self) -> Labeller:
        return Counting(self.noise, self.moments, tight=True)


def copper(seed: int = 1, distance: float = 0.1) -> Atoms:
    atoms = bulk("Cu", cubic=True)
    atoms.numbers[1] = 79
    atoms.rattle(distance, seed=seed)
    return atoms


def task_of(atoms: Atoms, mask: tuple[int, ...] = (1, 1, 1, 1)) -> Task:
    return Task.new(
        atoms, mask, EMT.model_dump(mode="json"), priority=3.0, origin={"walker": "w00"}, config_type="a", created=NOW
    )


class World:
    """A run's results and attempts, and what a worker does with them."""

    def __init__(self, root: Path, labeller: Counting | None = None) -> None:
        self.root = root
        self.results = Results(root / "results", fsync=False)
        self.labeller = labeller or Counting()
        self.attempt = 0

    def label(self, task: Task, judge: Judge | None = None) -> dict[str, Any]:
        self.attempt += 1
        folder = self.root / "attempts" / task.id / f"{self.attempt:02d}-w"
        folder.mkdir(parents=True)
        return label_task(
            self.labeller, task, folder, worker="w", clock=SystemClock(), judge=judge, results=self.results
        )

    def complete(self, task: Task) -> dict[str, Any]:
        record = self.label(task)
        self.results.write_once(task.id, record)
        if "reused_from" not in record["info"]:
            Twins(self.results).add(record["info"]["likeness"], task.id)
        return record


# --- labels that exist ---------------------------------------------------------------------------------------


def test_another_mask_takes_the_same_label(tmp_path: Path) -> None:
    world = World(tmp_path)
    first, second = task_of(copper()), task_of(copper(), (1, 0, 0, 1))
    original, reused = world.complete(first), world.complete(second)
    assert world.labeller.calls == 1
    assert reused["info"]["reused_from"] == first.id != second.id
    assert {key: reused[key] for key in ("energy", "forces", "stress")} == {
        key: original[key] for key in ("energy", "forces", "stress")
    }
    assert "cores" not in reused["info"]


def test_a_like_structure_gets_the_forces_of_its_own_atoms(tmp_path: Path) -> None:
    world = World(tmp_path, Counting(moments=[0.1, 0.2, 0.3, 0.4]))
    world.complete(task_of(copper()))
    order = [2, 0, 3, 1]
    other = copper()[order]
    other.positions += [0.3, -7.0, 1.1]
    other.wrap()
    reused = world.complete(task_of(other))
    computed = TeacherLabeller(EMT).label(other, tmp_path)
    assert world.labeller.calls == 1
    assert reused["energy"] == pytest.approx(computed.energy, abs=1e-9)
    np.testing.assert_allclose(reused["forces"], computed.forces, atol=1e-9)
    np.testing.assert_allclose(reused["stress"], computed.stress, atol=1e-9)
    assert reused["info"]["moments"] == [0.3, 0.1, 0.4, 0.2]


def test_unlike_structures_and_switched_off_reuse_are_computed(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.complete(task_of(copper()))
    moved = copper()
    moved.positions[0, 0] += 1e-3
    world.complete(task_of(moved))
    assert world.labeller.calls == 2
    world.label(task_of(copper(), (1, 0, 0, 0)), Judge(LabellingSettings(reuse=False)))
    assert world.labeller.calls == 3


def test_a_key_alone_makes_no_label(tmp_path: Path) -> None:
    # Somebody, or a collision, entered a structure under a foreign key.
    world = World(tmp_path)
    first = world.complete(task_of(copper(1)))
    second = task_of(copper(2))
    key = world.label(second)["info"]["likeness"]
    Twins(world.results).add(key, first["id"])
    assert "reused_from" not in world.label(second)["info"]


def test_what_a_person_wants_anew_is_computed(tmp_path: Path) -> None:
    world = World(tmp_path)
    first, twin = task_of(copper()), task_of(copper(), (1, 1, 0, 0))
    world.complete(first)
    world.complete(twin)
    world.results.supersede(twin.id)
    assert "reused_from" not in world.complete(twin)["info"]
    assert world.labeller.calls == 2


def test_a_label_that_was_set_aside_is_no_source(tmp_path: Path) -> None:
    world = World(tmp_path)
    first = task_of(copper())
    world.complete(first)
    world.results.supersede(first.id)
    assert "reused_from" not in world.complete(task_of(copper(), (1, 0, 0, 0)))["info"]


# --- windows -------------------------------------------------------------------------------------------------


def test_a_refused_label_is_kept_and_judged_again_without_computing(tmp_path: Path) -> None:
    world = World(tmp_path)
    task = task_of(copper(distance=0.4))
    with pytest.raises(DataError, match=r"force_limit 0\.5 eV/A.*queue retry") as caught:
        world.label(task, Judge(force_limit=0.5))
    assert not caught.value.transient
    (kept,) = (tmp_path / "attempts" / task.id).glob("*/refused.json")
    assert json.loads(kept.read_text())["id"] == task.id
    with pytest.raises(DataError, match="force_limit"):
        world.label(task, Judge(force_limit=0.6))
    record = world.label(task, Judge(force_limit=1e3))
    assert world.labeller.calls == 1
    assert record["forces"] == json.loads(kept.read_text())["forces"]


def test_masked_forces_may_be_of_any_size(tmp_path: Path) -> None:
    atoms = copper(distance=0.4)
    forces = np.linalg.norm(TeacherLabeller(EMT).label(atoms, tmp_path).forces, axis=1)
    limit = float(np.sort(forces)[:2].mean())
    mask = tuple(int(i == np.argmin(forces)) for i in range(4))
    assert World(tmp_path / "a").label(task_of(atoms, mask), Judge(force_limit=limit))
    with pytest.raises(DataError, match="force_limit"):
        World(tmp_path / "b").label(task_of(atoms), Judge(force_limit=limit))


def test_energies_are_counted_from_isolated_atoms(tmp_path: Path) -> None:
    # EMT counts from the bulk metal: its free atoms have 3.5 and 3.8 eV.
    teacher = TeacherLabeller(EMT)
    isolated = {element: teacher.isolated_atom_energy(element, tmp_path) for element in ("Cu", "Au")}
    bound = Judge(LabellingSettings(energy_window=(-3.0, 5.0)), isolated=isolated)
    with pytest.raises(DataError, match=r"-3\.\d+ eV per atom above isolated atoms .*energy_window \[-3, 5\]"):
        World(tmp_path / "a").label(task_of(copper()), bound)
    assert World(tmp_path / "b").label(task_of(copper()), Judge(isolated=isolated))
    # Nothing is known of gold yet: the trainer will look at the energy.
    partly = Judge(LabellingSettings(energy_window=(-3.0, 5.0)), isolated={"Cu": isolated["Cu"]})
    assert World(tmp_path / "c").label(task_of(copper()), partly)


# --- surprises -----------------------------------------------------------------------------------------------


def test_a_surprise_is_kept_and_flagged(tmp_path: Path) -> None:
    seen = LabelRange(lowest=-3.5, highest=-3.4, largest_force=0.01)
    record = World(tmp_path).label(task_of(copper(distance=0.4)), Judge(seen=seen, isolated={}))
    assert "labels so far at most 0.01 eV/A" in record["info"]["flags"]["surprise"]
    assert "energy" not in record["info"]["flags"]["surprise"]
    calm = LabelRange(lowest=-5.0, highest=5.0, largest_force=50.0)
    assert "flags" not in World(tmp_path / "calm").label(task_of(copper()), Judge(seen=calm, isolated={}))["info"]


def test_the_energy_of_a_surprise(tmp_path: Path) -> None:
    isolated = {"Cu": 3.5, "Au": 3.8}
    seen = LabelRange(lowest=-1.0, highest=0.0, largest_force=100.0)
    told = World(tmp_path).label(task_of(copper()), Judge(seen=seen, isolated=isolated))["info"]["flags"]["surprise"]
    assert "labels so far -1 to 0 eV/atom" in told


@pytest.mark.parametrize(("noise", "accepted"), [(1e-4, True), (1.0, False)])
def test_surprises_are_computed_tighter_on_request(tmp_path: Path, noise: float, accepted: bool) -> None:
    world = World(tmp_path, Counting(noise))
    judge = Judge(LabellingSettings(recheck_surprises=True), seen=LabelRange(0.0, 0.0, 0.01))
    if accepted:
        info = world.label(task_of(copper()), judge)["info"]
        assert info["tight"]
        assert "moved the energy by 0.025 meV/atom" in info["recheck"]
        assert "surprise" in info["flags"]
    else:
        with pytest.raises(NotConverged, match=r"does not repeat.* 250 meV/atom"):
            world.label(task_of(copper()), judge)


def test_nothing_is_tighter_than_an_analytic_label(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.labeller = TeacherLabeller(EMT)  # type: ignore[assignment]
    judge = Judge(LabellingSettings(recheck_surprises=True), seen=LabelRange(0.0, 0.0, 0.01))
    assert world.label(task_of(copper()), judge)["info"]["recheck"] == "teacher emt knows nothing tighter"


# --- what engines say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("moments", "told"), [([1.0], "shape"), ([1.0, 2.0, float("nan"), 0.0], "not finite")])
def test_moments_fit_the_structure(tmp_path: Path, moments: list[float], told: str) -> None:
    with pytest.raises(OutputUnreadable, match=rf"label\.moments: .*{told}"):
        World(tmp_path, Counting(moments=moments)).label(task_of(copper()))


def test_a_window_that_is_closed_names_itself() -> None:
    with pytest.raises(ValueError, match=r"labelling\.energy_window: \[3\.0, 1\.0\]"):
        LabellingSettings(energy_window=(3.0, 1.0))
