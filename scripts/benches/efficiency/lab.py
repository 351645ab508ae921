"""A run without daemons: the product's own queue, labelling, intake, trainer and walkers, called one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
from ase import Atoms
from materials import SYSTEMS, Material, near_the_glide_plane, seeds, starts, temperatures

from mlip_autopipec.config import parse
from mlip_autopipec.core.clock import SystemClock
from mlip_autopipec.core.interfaces import Evaluator, Neighbourhood
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.evaluators import load_evaluator, make_evaluator
from mlip_autopipec.daemons.fitjob import FitJob, FitRequest
from mlip_autopipec.daemons.fitter import Fitter
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.daemons.labellers import make_labeller
from mlip_autopipec.daemons.otf_runner import build_walker
from mlip_autopipec.daemons.queues import dft_queue
from mlip_autopipec.stages.choose import CostModel
from mlip_autopipec.stages.label import label_task
from mlip_autopipec.stages.publish import publish
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task

COST = CostModel.learned([(34, 55.0)])
"""Quantum ESPRESSO, 34 atoms of Al at Gamma: 55 core-seconds on this kind of machine (DESIGN.md, section 3)."""


def configuration(material: Material, systems: Sequence[str], steps: int, more: dict[str, Any]) -> dict[str, Any]:
    """Return the run's configuration; `more` has what a strategy does differently, by section."""
    walkers = []
    for system in systems:
        parts = [{"steps": max(1, int(share * steps)), "temperature": [first, last]}
                 for share, first, last in temperatures(material, system)]  # fmt: skip
        first = parts[0]["temperature"][0]
        walkers.append({"structure": f"start/{system}.extxyz", "temperature": first, "schedule": {"segments": parts}})
    sections: dict[str, Any] = {
        "start": {"structure": f"start/{systems[0]}.extxyz", "dataset": "start/dataset.extxyz"},
        "labeller": material.labeller,
        "otf": {
            "ensemble": "nvt", "timestep": 2.0, "walkers": walkers, "threads": 1, "engine": "ace", "audit_fraction": 0,
            "uncertainty_threshold": 3.0, "snapshot_interval": 50, "max_extractions": 1000, "reseed_limit": 20,
        },
        "embedding": {},
        "training": {
            "cutoff": material.cutoff, "nradmax_by_orders": [12, 6, 3, 1], "lmax_by_orders": [0, 5, 3, 1],
        },
        "queue": {"fsync": False},
    }  # fmt: skip
    return {name: {**section, **more.get(name, {})} for name, section in sections.items()}


@dataclass(frozen=True)
class Judge:
    """Force errors on frames that nobody learns from.

    Attributes
    ----------
    frames : by system, labelled
    """

    frames: dict[str, list[Atoms]]
    _near: dict[str, list[Neighbourhood]] = field(default_factory=dict)

    def __call__(self, evaluator: Evaluator) -> dict[str, float]:
        """Return the force RMSE (eV/A, by component) of each system; of a dislocation, of its core only."""
        found = {}
        for system, frames in self.frames.items():
            if system not in self._near:
                self._near[system] = [neighbourhood(f, evaluator.cutoff, evaluator.elements) for f in frames]
            squares = []
            for frame, near in zip(frames, self._near[system], strict=True):
                error = evaluator.evaluate(near).forces - frame.get_forces()
                counts = near_the_glide_plane(frame) if system == "dislocation" else slice(None)
                squares.append((error[counts] ** 2).ravel())
            found[system] = float(np.sqrt(np.mean(np.concatenate(squares))))
        return found


@dataclass(frozen=True)
class Point:
    """One version on the way.

    Attributes
    ----------
    labels : so far, those of the common start left out
    seconds : estimated core-seconds of them
    errors : system -> force RMSE, eV/A
    """

    labels: int
    seconds: float
    errors: dict[str, float]

    @property
    def rmse(self) -> float:
        """Over all systems alike, but for the dislocation."""
        return float(np.sqrt(np.mean([self.errors[system] ** 2 for system in SYSTEMS])))


class Lab:
    """A run directory in which tasks become labels, and labels versions.

    Parameters
    ----------
    root
        Made here.
    large
        Walkers start from large frames, else from cells of some 32 atoms.
    """

    def __init__(
        self, root: Path, material: Material, systems: Sequence[str], judge: Judge, *, seed: int, steps: int,
        large: bool, more: dict[str, Any],
    ) -> None:  # fmt: skip
        self.run = RunDirectory(root)
        self.run.create()
        self.run.start.mkdir()
        for system, atoms in starts(material, large=large, systems=systems).items():
            ase.io.write(self.run.start / f"{system}.extxyz", atoms)
        more = {**more, "otf": {"seed": 10_000 * seed + 1, **more.get("otf", {})}}
        self.config = parse(configuration(material, systems, steps, more), self.run.config_file)
        settings = self.config.labeller_settings()
        self.judge = judge
        self.registry = Registry(self.run.potentials)
        self.queue = dft_queue(self.run, self.config.queue, worker="bench")
        self.labeller = make_labeller(settings, self.config.node)
        self.intake = Intake(self.run, settings, force_limit=self.config.training.force_limit)
        self.intake.load()
        self.intake.take_frames(seeds(material, seed))
        job = FitJob(self.run.root, self.config.training, settings, self.config.node, (material.symbol,))
        self.fitter = Fitter(job)
        self.sizes: list[int] = []
        self.kinds: dict[str, int] = {}
        self._contained: set[str] = set()
        self.points = [self.fit()]

    def fit(self) -> Point:
        """Make the next version of all labels and judge it."""
        wanted = tuple(sorted(self.intake.trainable))
        parent = self.registry.versions()[-1] if self.registry.versions() else None
        answer = self.fitter(FitRequest(wanted, parent=parent))
        facts = answer.facts
        new = sorted(set(facts["task_ids"]) - self._contained)
        version = publish(self.registry, answer.folder, {"parent": parent, "new_task_ids": new, **facts})
        self._contained = set(wanted)
        errors = self.judge(load_evaluator(self.registry.path(version) / "potential.yaml"))
        return Point(len(self.sizes), sum(map(COST.seconds, self.sizes)), errors)

    def label(self, most: int | None = None) -> None:
        """Label what is pending, up to `most` tasks."""
        done = 0
        while (most is None or done < most) and (claim := self.queue.claim()) is not None:
            folder = self.run.attempt(claim.task.id)
            folder.mkdir(parents=True, exist_ok=True)
            record = label_task(self.labeller, claim.task, folder, worker="bench", clock=SystemClock())
            self.queue.complete(claim, record)
            self.sizes.append(len(claim.task.force_mask))
            self.kinds[claim.task.config_type] = self.kinds.get(claim.task.config_type, 0) + 1
            done += 1
        self.intake.take_results()

    def learn(self) -> bool:
        """Fit if there are new labels; True if there were."""
        if not self.intake.trainable - self._contained:
            return False
        self.points.append(self.fit())
        return True

    def evaluator(self) -> Evaluator:
        """Return the last version, with gamma."""
        return make_evaluator(self.registry.path(self.registry.versions()[-1]))

    def grow(self, *, labels: int, seconds: float = float("inf"), limit_s: float, enough: Callable[[], bool]) -> str:
        """Let the walkers move and ask until so many labels or core-seconds are spent; return why it ended."""
        walkers = [build_walker(self.run, self.config, plan) for plan in walker_plans(self.config.otf)]
        for walker in walkers:
            walker.start()
        begin, now = time.monotonic(), 0.0
        try:
            while True:
                now += 3.0
                for walker in walkers:
                    if not walker.state.ended:
                        walker.step(now)
                self.label()
                self.learn()
                if self.points[-1].labels >= labels or self.points[-1].seconds >= seconds:
                    return "labels"
                if enough():
                    return "enough"
                if all(walker.state.ended for walker in walkers):
                    return "MD is over"
                if time.monotonic() - begin > limit_s:
                    return "time"
        finally:
            for walker in walkers:
                walker.close()

    def add(self, tasks: Sequence[Task], at: Sequence[int]) -> None:
        """Label tasks in their order, and fit whenever so many labels (`at`) are there."""
        for number, task in enumerate(tasks, start=1):
            self.queue.publish(task)
            self.label()
            if number in at:
                self.learn()

    def visited(self) -> list[Atoms]:
        """Return the frames of all accepted branches."""
        files = sorted(self.run.walkers.glob("*/trajectory.extxyz.gz"))
        return [frame for file in files for frame in ase.io.read(file, ":")]
