"""Candidates and audits of a walker on a real potential: collected without a halt, sent once, bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.core.events import EventLog, read_events
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.auditor import Auditor
from mlip_autopipec.daemons.collector import Collector
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.healing import Healing
from mlip_autopipec.daemons.novelty import Novelty
from mlip_autopipec.daemons.queues import dft_queue
from mlip_autopipec.stages.calibrate import AUDIT
from mlip_autopipec.stages.carve import EmbeddingSettings
from mlip_autopipec.stages.watch import OtfSettings, walker_plans
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.results import make_result
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import QueueSettings
from mlip_autopipec.store.task import Task
from small_potentials import distorted, fit_emt

EMBEDDING = EmbeddingSettings(cutoff=3.0, buffer_size=2.2, whole_cell_fraction=0.0)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit_emt(tmp_path_factory.mktemp("potential"), ["Al"])


class World:
    """A run directory with one version and one walker's desk."""

    def __init__(self, root: Path, fitted: Path, **otf: Any) -> None:
        self.run = RunDirectory(root)
        self.run.create()
        (self.run.walker("w00") / "excursions").mkdir(parents=True)
        self.registry = Registry(self.run.potentials)
        work = self.registry.new_work_folder()
        for name in FILES:
            source = fitted / name
            (work / name).write_bytes(source.read_bytes() if source.exists() else b"{}")
        self.version = self.registry.publish(work, {"task_ids": []})
        self.evaluator = make_evaluator(self.registry.path(self.version))
        defaults = {"audit_fraction": 0.0, "uncertainty_threshold": 1e6, "selection_threshold": 2.0}
        self.otf = OtfSettings(**{**defaults, **otf})
        self.events = EventLog(self.run.events, "w00")
        self.queue = dft_queue(self.run, QueueSettings(fsync=False), worker="w00")
        self.refused: set[str] = set()

    def collector(self) -> Collector:
        (plan,) = walker_plans(self.otf)
        return Collector(
            self.run.walker("w00"), self.otf, auditor=Auditor(plan, self.otf, 1),
            novelty=Novelty(self.registry, self.queue, lambda: self.refused), queue=self.queue, events=self.events,
            apart=EMBEDDING.cutoff,
        )  # fmt: skip

    def desk(self, embedding: EmbeddingSettings = EMBEDDING) -> Healing:
        return Healing(
            self.run.walker("w00"), "w00", embedding=embedding, threshold=self.otf.uncertainty_threshold,
            labeller={"engine": "teacher", "model": "emt"}, queue=self.queue, registry=self.registry,
            events=self.events, refused=set, collector=self.collector(),
        )  # fmt: skip

    def frame(self, seed: int, amplitude: float = 0.3) -> Atoms:
        atoms = distorted(["Al"], seed, amplitude=amplitude) * (2, 2, 2)
        atoms.positions += np.random.default_rng(seed).normal(scale=amplitude / 3, size=atoms.positions.shape)
        found = self.evaluator.evaluate(neighbourhood(atoms, self.evaluator.cutoff, ("Al",)), gamma=True)
        atoms.arrays["gamma"] = found.gamma
        return atoms

    def passes(self, desk: Healing, atoms: Atoms, step: int) -> None:
        gamma = float(atoms.arrays["gamma"].max())
        desk.passed(lambda: atoms, step, gamma, self.version, self.evaluator)

    def published(self) -> list[Task]:
        return [Task.read(path) for _, _, _, path in self.queue.ls("pending")]


def test_a_frame_between_the_thresholds_becomes_candidates_and_nothing_is_sent(tmp_path: Path, fitted: Path) -> None:
    world = World(tmp_path, fitted, max_candidates=50)
    desk = world.desk()
    atoms = world.frame(1)
    assert atoms.arrays["gamma"].max() > 2.0
    world.passes(desk, atoms, 100)
    kept = list(desk.collector.candidates.tasks())
    assert 1 <= len(kept) <= world.otf.regions_per_frame
    assert {task.config_type for task in kept} == {"candidate"}
    assert max(task.priority for task in kept) == pytest.approx(atoms.arrays["gamma"].max())
    assert world.published() == []
    assert desk.extractions == 0
    world.passes(desk, atoms, 110)  # too soon after the last one
    assert desk.collector.candidates.count() == len(kept)
    world.passes(desk, atoms, 1000)  # the same again: what is new in it is kept already
    again = {task.id for task in desk.collector.candidates.tasks()}
    virtual = desk.collector._novelty.virtual()
    for task in kept:
        virtual.enter(desk.collector._novelty.candidate(task).rows)
    fresh = [t for t in desk.collector.candidates.tasks() if t.id not in {k.id for k in kept}]
    assert {task.id for task in kept} <= again
    assert all(virtual.gamma(desk.collector._novelty.candidate(t).rows) > 2.0 for t in fresh)


def test_below_the_selection_threshold_nothing_is_collected(tmp_path: Path, fitted: Path) -> None:
    world = World(tmp_path, fitted, selection_threshold=1e5)
    desk = world.desk()
    world.passes(desk, world.frame(1), 100)
    assert desk.collector.candidates.count() == 0


def test_full_means_sent_without_a_halt(tmp_path: Path, fitted: Path) -> None:
    world = World(tmp_path, fitted, max_candidates=4)
    desk = world.desk()
    for n in range(6):
        if not world.published():
            world.passes(desk, world.frame(n), 1000 * n)
    sent = world.published()
    assert 1 <= len(sent) <= 4
    assert desk.collector.candidates.count() == 0
    assert desk.extractions == len(sent) == desk.collector.sent.count()
    assert desk.halt is None
    told = read_events(world.events.path)
    assert [e["event"] for e in told] == ["task_published"] * len(sent)
    assert {e["collected"] for e in told} == {"candidate"}


def test_what_waits_in_the_queue_is_not_collected_again(tmp_path: Path, fitted: Path) -> None:
    world = World(tmp_path, fitted, max_candidates=50, regions_per_frame=1)
    first = world.desk()
    atoms = world.frame(3)
    world.passes(first, atoms, 100)
    (task,) = first.collector.candidates.tasks()
    world.queue.publish(task)
    first.collector.candidates.remove(task.id)
    again = world.desk()
    world.passes(again, atoms, 100)
    assert again.collector.candidates.count() == 0


def test_a_halt_sends_distinct_regions_and_the_candidates(tmp_path: Path, fitted: Path) -> None:
    world = World(tmp_path, fitted, uncertainty_threshold=3.0, max_candidates=50)
    desk = world.desk()
    atoms = world.frame(4)
    halt = desk.open(atoms, 500, world.version, world.evaluator)
    assert halt.atom == int(np.argmax(atoms.arrays["gamma"]))
    assert 1 <= len(halt.task_ids) <= 3
    assert {t.id for t in world.published()} == set(halt.task_ids)
    centers = [t.origin["center"] for t in world.published()]
    for i, a in enumerate(centers):
        for b in centers[:i]:
            assert atoms.get_distance(a, b, mic=True) > EMBEDDING.cutoff
    assert desk.extractions == len(halt.task_ids)


def test_further_regions_survive_a_kill_before_their_publication(
    tmp_path: Path, fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, fitted, uncertainty_threshold=3.0)
    desk = world.desk()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(desk.queue, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.open(world.frame(4), 500, world.version, world.evaluator)
    again = world.desk()
    assert again.halt is not None
    wanted = set(again.halt.task_ids)
    assert len(wanted) > 1
    assert world.published() == []
    again.republish(world.evaluator)
    assert {t.id for t in world.published()} == wanted


def test_the_budget_of_walker_and_run_are_kept(tmp_path: Path, fitted: Path) -> None:
    world = World(tmp_path, fitted, uncertainty_threshold=3.0, max_extractions=1)
    desk = world.desk()
    assert desk.may_extract(1)
    assert len(desk.open(world.frame(4), 500, world.version, world.evaluator).task_ids) == 1
    assert not desk.may_extract(1)
    other = World(tmp_path / "run", fitted, max_extractions_run=0)
    assert not other.desk().may_extract(100)


def test_an_audit_learns_one_random_atom_and_is_told_as_such(tmp_path: Path, fitted: Path) -> None:
    world = World(tmp_path, fitted, min_audits=3, steps=300, selection_threshold=1e5)
    desk = world.desk()
    atoms = world.frame(5, amplitude=0.1)
    for step in range(0, 301, 10):
        world.passes(desk, atoms, step)
    audits = world.published()
    assert len(audits) == 3 == desk.collector.audits.count()
    for task in audits:
        assert (task.config_type, sum(task.force_mask)) == (AUDIT, 1)
        assert task.origin["level"] == 1e6
        # The learned atom is the one that was drawn: its surroundings are those in the parent.
        parent, cell = task.origin["center"], task.atoms()
        drawn = task.force_mask.index(1)
        here = np.sort(cell.get_distances(drawn, range(len(cell)), mic=True))[1:8]
        there = np.sort(atoms.get_distances(parent, range(len(atoms)), mic=True))[1:8]
        assert np.abs(here - there).max() < 1e-9
    assert len({task.origin["center"] for task in audits}) > 1
    assert desk.extractions == 0  # audits are not regions that MD stumbled over
    assert {e["collected"] for e in read_events(world.events.path)} == {AUDIT}
    again = world.desk()
    world.passes(again, atoms, 300)
    assert len(world.published()) == 3


def test_audits_are_not_picked_by_how_good_their_cells_are(tmp_path: Path, fitted: Path) -> None:
    """No cell is as good as this asks for: no candidate is sent, but what is audited stays a fair sample."""
    world = World(tmp_path, fitted, min_audits=2, steps=100)
    desk = world.desk(EMBEDDING.model_copy(update={"max_core_force_error": 1e-12}))
    atoms = world.frame(6)
    for step in range(0, 101, 10):
        world.passes(desk, atoms, step)
    assert desk.collector.candidates.count() == 0
    assert [task.config_type for task in world.published()] == [AUDIT, AUDIT]


def test_a_refused_label_leaves_the_virtual_active_set(tmp_path: Path, fitted: Path) -> None:
    world = World(tmp_path, fitted, max_candidates=50, regions_per_frame=1)
    desk = world.desk()
    world.passes(desk, world.frame(3), 100)
    (task,) = desk.collector.candidates.tasks()
    rows = desk.collector._novelty.candidate(task).rows
    alone = desk.collector._novelty.virtual().gamma(rows)
    world.queue.publish(task)
    assert desk.collector._novelty.virtual().gamma(rows) < alone
    claim = world.queue.claim()
    assert claim is not None
    label = Label(0.0, np.zeros((len(task.force_mask), 3)), None, {"engine": "test", "wall_s": 0.0})
    world.queue.complete(claim, make_result(task, label, "test", "2026-01-01T00:00:00+00:00"))
    assert desk.collector._novelty.virtual().gamma(rows) < alone  # a version will know it
    world.refused = {task.id}
    assert desk.collector._novelty.virtual().gamma(rows) == pytest.approx(alone)


LONELY = EmbeddingSettings(cutoff=2.0, buffer_size=2.5, whole_cell_fraction=0.0, max_core_force_error=None)


def audited(world: World, monkeypatch: pytest.MonkeyPatch, atoms: Atoms, desk: Healing, *, step: int) -> None:
    """Let a frame pass of which the most uncertain atom is drawn for an audit."""
    worst = int(np.argmax(atoms.arrays["gamma"]))
    monkeypatch.setattr(desk.collector._auditor, "atom", lambda *_: worst)
    monkeypatch.setattr(desk.collector._auditor, "wants", lambda *_: True)
    world.passes(desk, atoms, step)


def test_nobody_learns_from_an_audit_whose_core_is_one_atom(
    tmp_path: Path, fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A halt that would make the same task, of this walker or another one, takes a larger cell."""
    world = World(tmp_path, fitted, selection_threshold=1e5)
    desk, atoms = world.desk(LONELY), world.frame(5, amplitude=0.1)
    audited(world, monkeypatch, atoms, desk, step=100)
    (audit,) = world.published()
    assert (audit.config_type, sum(audit.force_mask)) == (AUDIT, 1)
    (world.run.walker("w01") / "excursions").mkdir(parents=True)
    other = Healing(
        world.run.walker("w01"), "w01", embedding=LONELY, threshold=3.0,
        labeller={"engine": "teacher", "model": "emt"}, queue=world.queue, registry=world.registry,
        events=world.events, refused=set,
    )  # fmt: skip
    for asking in (desk, other):
        halt = asking.open(atoms, 100, world.version, world.evaluator)
        assert halt.carves[0]["atom"] == audit.origin["center"]
        assert halt.carves[0]["atoms"] > len(audit.force_mask)
        assert audit.id not in halt.task_ids


def test_what_is_asked_for_already_is_no_audit(tmp_path: Path, fitted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, fitted, selection_threshold=1e5)
    desk, atoms = world.desk(LONELY), world.frame(5, amplitude=0.1)
    (asked,) = desk.open(atoms, 100, world.version, world.evaluator).task_ids[:1]
    audited(world, monkeypatch, atoms, desk, step=100)
    assert desk.collector.audits.count() == 0
    assert asked in {task.id for task in world.published()}
    assert AUDIT not in {task.config_type for task in world.published()}
