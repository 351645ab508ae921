"""Calibration: does the halt level keep the true force error below its target, and how often does MD halt? (Al, EMT)"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.io
import click
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.cli.examples import strained_and_rattled
from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.config import Config, parse
from mlip_autopipec.core.clock import SystemClock
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.daemons.calibrator import Calibrator
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.fitter import FitJob, FitRequest, Fitter
from mlip_autopipec.daemons.haltlevel import HaltLevel
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.daemons.labellers import make_labeller
from mlip_autopipec.daemons.otf_runner import build_walker, make_md, md_settings
from mlip_autopipec.daemons.queues import dft_queue
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.label import label_task
from mlip_autopipec.stages.publish import publish
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory

TEMPERATURES = (300, 800, 1300, 2000)


def configuration(target: float, steps: int, labels: int, audit_fraction: float) -> dict[str, Any]:
    """The run: one walker per temperature, from warm solid to liquid, 108 atoms."""
    return {
        "start": {"structure": "start/structure.extxyz", "dataset": "start/dataset.extxyz"},
        "labeller": {"engine": "teacher", "model": "emt"},
        "otf": {
            "timestep": 2.0, "steps": steps, "walkers": [{"temperature": t} for t in TEMPERATURES], "threads": 1,
            "target_force_error": target, "audit_fraction": audit_fraction, "min_audits": int(audit_fraction * labels),
            "max_extractions_run": labels, "max_extractions": labels, "reseed_limit": 20,
        },
        "embedding": {"mode": "box", "cutoff": 3.2, "buffer_size": 2.4},
        "training": {
            "cutoff": 5.6, "nradmax_by_orders": [12, 5, 3, 2], "lmax_by_orders": [0, 3, 3, 2],
            "min_initial_labels": 24, "min_new_labels": 3,
        },
        "queue": {"fsync": False},
    }  # fmt: skip


def make_run(root: Path, content: dict[str, Any]) -> tuple[RunDirectory, Config]:
    run = RunDirectory(root)
    run.create()
    run.start.mkdir()
    lattice = bulk("Al", "fcc", a=4.02, cubic=True)
    seeds = strained_and_rattled(lattice * (2, 2, 2), 24, rattle=(0.02, 0.16), strain=0.03, seed=1)
    for atoms in seeds:
        truth = atoms.copy()
        truth.calc = EMT()
        atoms.calc = SinglePointCalculator(
            atoms, energy=truth.get_potential_energy(), forces=truth.get_forces(), stress=truth.get_stress()
        )
    ase.io.write(run.start / "dataset.extxyz", seeds)
    ase.io.write(run.start / "structure.extxyz", lattice * (3, 3, 3))
    return run, parse(content, run.config_file)


@dataclass
class Loop:
    """The whole loop in one process: the daemons' own parts, called one after the other."""

    run: RunDirectory
    config: Config

    def __post_init__(self) -> None:
        settings = self.config.labeller_settings()
        self.registry = Registry(self.run.potentials)
        self.queue = dft_queue(self.run, self.config.queue, worker="bench")
        self.intake = Intake(self.run, settings, force_limit=self.config.training.force_limit)
        self.intake.load()
        self.intake.take_frames(read_structures(self.run.start / "dataset.extxyz", "start.dataset"))
        self.labeller = make_labeller(settings, self.config.node)
        self.fitter = Fitter(FitJob(self.run.root, self.config.training, settings, self.config.node, ("Al",)))
        self.calibrator = Calibrator(
            self.run.calibration, self.intake, self.registry, self.config.otf, self.config.training
        )
        self.contained: set[str] = set()
        self.fit()
        self.walkers = [build_walker(self.run, self.config, plan) for plan in walker_plans(self.config.otf)]

    def fit(self) -> None:
        answer = self.fitter(FitRequest(tuple(sorted(self.intake.trainable))))
        new = sorted(set(answer.facts["task_ids"]) - self.contained)
        publish(self.registry, answer.folder, {"parent": None, "new_task_ids": new, **answer.facts})
        self.contained = set(answer.facts["task_ids"])

    def label(self) -> None:
        while (claim := self.queue.claim()) is not None:
            folder = self.run.attempt(claim.task.id)
            folder.mkdir(parents=True, exist_ok=True)
            record = label_task(self.labeller, claim.task, folder, worker="bench", clock=SystemClock())
            self.queue.complete(claim, record)
        self.intake.take_results()

    def asked(self) -> int:
        """Labels that walkers asked for, audits included."""
        return sum(1 for _ in self.queue.results.ids())

    def go(self, labels: int, limit_s: float) -> None:
        """Run until so many labels are there, all walkers have ended, or time is up."""
        for walker in self.walkers:
            walker.start()
        begin, now = time.monotonic(), 0.0
        while self.asked() < labels and time.monotonic() - begin < limit_s:
            now += 3.0
            for walker in self.walkers:
                walker.step(now)
            self.label()
            if self.intake.trainable - self.contained:
                self.fit()
            while self.calibrator.step():
                pass
            if all(walker.state.ended for walker in self.walkers):
                break
        for walker in self.walkers:
            walker.close()


def visited(loop: Loop, evaluator: Evaluator, level: float, steps: int) -> dict[str, Any]:
    """MD with the last version from where each walker stood: what it visits below the level, against the teacher."""
    errors, gammas, largest = [], [], []
    for walker, plan in zip(loop.walkers, walker_plans(loop.config.otf), strict=True):
        settings = md_settings(plan, loop.config.otf, 3)
        with make_md(evaluator, settings, loop.run.logs / "check.log") as md:
            md.gamma_every = 10
            if walker.state.snapshot is None:
                md.start(ase.io.read(loop.run.start / "structure.extxyz"), velocity_seed=7)
            else:
                md.restore(walker.snapshots.path(walker.state.snapshot))
            for _ in range(steps // 10):
                md.run(10)
                frame = md.frame()
                truth = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=True, calculator=EMT())
                errors.append(np.linalg.norm(frame.get_forces() - truth.get_forces(), axis=1))
                gammas.append(frame.arrays["gamma"])
                largest.append(frame.arrays["gamma"].max())
    error, gamma, top = np.array(errors), np.array(gammas), np.array(largest)
    below = gamma <= level
    return {
        "environments": int(below.sum()),
        "good": float(np.mean(error[below] <= loop.config.otf.target_force_error)) if below.any() else None,
        "error_95": float(np.quantile(error[below], 0.95)) if below.any() else None,
        "steps_without_halt": float(np.mean(top <= level)),
        "force_rmse": float(np.sqrt(np.mean(error**2) / 3)),
    }


def measure(target: float, steps: int, labels: int, audit_fraction: float, limit_s: float) -> dict[str, Any]:
    """One run with one target."""
    with tempfile.TemporaryDirectory() as scratch:
        run, config = make_run(Path(scratch) / "run", configuration(target, steps, labels, audit_fraction))
        begin = time.monotonic()
        loop = Loop(run, config)
        loop.go(labels, limit_s)
        while loop.calibrator.step():
            pass
        level = HaltLevel(run.calibration, config.otf)()
        found = json.loads(run.calibration.read_text()) if run.calibration.exists() else {}
        version = loop.registry.versions()[-1]
        facts = visited(loop, make_evaluator(loop.registry.path(version)), level, 1000)
        return {
            "target": target, "labels": loop.asked(), "audits": len(loop.intake.audits), "version": version,
            "level": level, "told": found.get("reason"), "bound": found.get("bound"),
            "converged": found.get("converged"), **facts,
            "steps": [w.state.step for w in loop.walkers], "states": [w.state.state for w in loop.walkers],
            "seconds": time.monotonic() - begin,
        }  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--target", "targets", type=float, multiple=True, default=(0.05, 0.1, 0.2), show_default=True)
@click.option("--labels", default=100, show_default=True, help="Labels beyond the 24 start structures.")
@click.option("--audit-fraction", default=0.35, show_default=True, help="30 audits are needed for a level.")
@click.option("--steps", default=6000, show_default=True, help="MD steps of each walker.")
@click.option("--limit", "limit_s", default=900.0, show_default=True, help="s for one target.")
def main(
    as_json: bool, targets: tuple[float, ...], labels: int, audit_fraction: float, steps: int, limit_s: float
) -> None:
    """Grow a potential for each target, then let MD run and ask the teacher."""
    rows = []
    for target in targets:
        rows.append(measure(target, steps, labels, audit_fraction, limit_s))
        print(json.dumps(rows[-1]), file=sys.stderr)
    if as_json:
        print(json.dumps(rows))
        return
    columns = ("target", "labels", "audits", "level", "bound", "good", "error_95", "steps_without_halt", "force_rmse")
    print_table("Al by EMT, solid to liquid (eV/A)", columns, ([row[c] for c in columns] for row in rows))


if __name__ == "__main__":
    main()
