"""What the gate stops: labels that contradict all the others. And what it lets pass: labels that are merely new."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.langevin import Langevin
from trainer_parts import NOW, World

from mlip_autopipec.config import load
from mlip_autopipec.core.files import read_json
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.core.yamlfile import dump_mapping, read_mapping
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.fitjob import FitAnswer, FitJob, FitRequest
from mlip_autopipec.daemons.fitter import Fitter
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.engines.teachers.labeller import TeacherLabeller
from mlip_autopipec.engines.teachers.settings import TeacherSettings
from mlip_autopipec.store.refusals import read_refusals
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import make_result
from mlip_autopipec.store.task import Task

TEACHER = TeacherLabeller(TeacherSettings(model="emt"))
_RYDBERG, _RYDBERG_PER_BOHR = 1 / units.Ry, units.Bohr / units.Ry


def aluminium(root: Path, solids: int = 24) -> World:
    """A run of rattled aluminium cells, labelled by EMT."""
    rng = np.random.default_rng(1)
    start = []
    for _ in range(solids):
        atoms = bulk("Al", "fcc", a=3.99 * rng.uniform(0.97, 1.03), cubic=True) * (2, 2, 2)
        atoms.rattle(rng.uniform(0.02, 0.16), rng=rng)
        atoms.calc = EMT()
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy(), forces=atoms.get_forces())
        start.append(atoms)
    world = World(root, start)
    settings = read_mapping(world.run.config_file)
    settings["labeller"]["model"] = "emt"
    settings["training"] |= {"cutoff": 5.6, "nradmax_by_orders": [8, 3], "lmax_by_orders": [0, 3]}
    world.run.config_file.write_text(dump_mapping(settings))
    world.config = load(world.run)
    return world


class Loop:
    """The trainer's work by hand: labels in, versions out."""

    def __init__(self, world: World) -> None:
        self.world = world
        config = world.config
        self.intake = Intake(world.run, config.labeller_settings(), force_limit=100.0)
        self.intake.load()
        self.registry = Registry(world.run.potentials)
        job = FitJob(world.run.root, config.training, config.labeller_settings(), config.node, ("Al",))
        self.fitter = Fitter(job)

    def task(self, atoms: Atoms, mask: list[int] | None = None, kind: str = "active_learning") -> Task:
        origin = {"walker": "w00", "step": 1, "version": "v0001"}
        settings = self.world.config.labeller_settings()
        return Task.new(
            atoms, mask or [1] * len(atoms), settings, priority=3.0, origin=origin, config_type=kind, created=NOW
        )

    def give(self, task: Task, change=lambda label: label) -> str:
        label = change(TEACHER.label(task.atoms(), Path()))
        self.world.results.write_once(task.id, make_result(task, label, "test", NOW))
        return task.id

    def fit(self) -> FitAnswer:
        """Fit all labels and publish, if there is a new one left."""
        self.intake.take_results()
        current = self.registry.current()
        parent = current.version if current else None
        held = tuple(sorted(self.intake.judging))
        answer = self.fitter(FitRequest(tuple(sorted(self.intake.trainable)), None, parent, held, parent))
        self.intake.refuse_all(answer.unusable)
        if parent is None or set(answer.facts["task_ids"]) - set(self.registry.labels(parent)):
            self.registry.publish(answer.folder, {"parent": parent, **answer.facts})
        return answer


def hot(seed: int, rattle: float = 0.2) -> Atoms:
    atoms = bulk("Al", "fcc", a=4.02, cubic=True) * (2, 2, 2)
    atoms.rattle(rattle, rng=np.random.default_rng(seed))
    return atoms


def permuted(label):
    return replace(label, forces=label.forces[np.random.default_rng(3).permutation(len(label.forces))])


def in_rydberg(label):
    return replace(label, energy=label.energy * _RYDBERG, forces=label.forces * _RYDBERG_PER_BOHR)


def misread_rydberg(label):
    return replace(label, energy=label.energy / _RYDBERG, forces=label.forces / _RYDBERG_PER_BOHR)


def outlier(label):
    return replace(label, energy=label.energy + 10.0)


POISONS = {"permuted": permuted, "in_rydberg": in_rydberg, "times_rydberg": misread_rydberg, "outlier": outlier}


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    from mlip_autopipec.stages.explore import read_structures

    world = aluminium(tmp_path_factory.mktemp("al"))
    loop = Loop(world)
    loop.intake.take_frames(read_structures(world.run.start / "dataset.extxyz", "start.dataset"))
    assert loop.fit().unusable == {}
    return loop


@pytest.mark.parametrize("poison", POISONS)
def test_a_poisoned_label_is_named_and_walkers_stay(begun, poison):
    before = begun.registry.current()
    task = begun.task(hot(100 + list(POISONS).index(poison), rattle=0.1))
    begun.give(task, POISONS[poison])
    begun.fit()
    assert begun.registry.current() == before
    reason = read_refusals(begun.world.run)[task.id]
    assert task.id in reason
    assert {"outlier": "energy", "permuted": "forces"}.get(poison, "") in reason


def test_of_good_and_poisoned_labels_the_good_ones_are_published(begun):
    good = [begun.give(begun.task(hot(seed))) for seed in (200, 201)]
    bad = begun.give(begun.task(hot(202)), permuted)
    answer = begun.fit()
    assert list(answer.unusable) == [bad]
    held = begun.registry.labels(begun.registry.current().version)
    assert set(good) <= set(held)
    assert bad not in held
    report = read_json(begun.registry.path(begun.registry.current().version) / "gate.json")
    assert {c["name"]: c["passed"] for c in report["checks"]}["squeezed_pairs"] is True


def test_a_label_that_is_not_a_number_is_refused_as_it_comes(begun):
    task = begun.task(hot(300))
    begun.give(task)
    file = begun.world.results.path(task.id)
    energy = TEACHER.label(task.atoms(), Path()).energy
    text = file.read_text()
    assert repr(energy) in text
    file.write_text(text.replace(repr(energy), "NaN"))
    begun.intake.take_results()
    assert task.id in begun.intake.refused
    assert task.id not in begun.intake.labels


@pytest.mark.slow
def test_no_label_that_a_heated_walker_asked_for_is_refused(tmp_path):
    """100 labels, of 300 K to far above melting: frames whose gamma is above 1.3 under the newest version."""
    from mlip_autopipec.stages.explore import read_structures

    world = aluminium(tmp_path)
    loop = Loop(world)
    loop.intake.take_frames(read_structures(world.run.start / "dataset.extxyz", "start.dataset"))
    loop.fit()
    rng = np.random.default_rng(5)
    atoms = bulk("Al", "fcc", a=4.05, cubic=True) * (3, 3, 3)
    atoms.calc = EMT()
    md = Langevin(atoms, 3 * units.fs, temperature_K=300, friction=0.02 / units.fs, fixcm=False, rng=rng)
    asked: list[str] = []
    candidates = []
    load = cache(lambda version: make_evaluator(loop.registry.path(version)))
    for turn in range(600):
        md.set_temperature(temperature_K=300 + 12 * turn)
        md.run(10)
        evaluator = load(loop.registry.current().version)
        gamma = evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, ("Al",)), gamma=True).gamma
        if gamma.max() < 1.3:
            continue
        near = atoms.get_distances(int(gamma.argmax()), range(len(atoms)), mic=True) < 3.2
        plain = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)
        asked.append(loop.give(loop.task(plain, near.astype(int).tolist())))
        if len(asked) % 4 == 0:
            answer = loop.fit()
            assert answer.unusable == {}
            candidates += answer.facts.get("candidate", [])
        if len(asked) == 100:
            break
    assert len(asked) == 100
    assert not loop.intake.refused
    assert candidates == []
    poisoned = set()
    for change in (permuted, in_rydberg, misread_rydberg):
        task = loop.task(hot(int(rng.integers(1e6)), rattle=0.1))
        loop.give(task, change)
        loop.fit()
        poisoned.add(task.id)
        assert set(read_refusals(world.run)) == poisoned
