"""trainer-worker: takes labels in, refits when it is time, publishes versions; the one writer of both.

Fits run in a child process. A kill at any time loses nothing: labels lie in `results/` until they have a row, a version
appears whole or not at all, and what a version contains stands in its manifest.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase import Atoms

from mlip_autopipec.core.clock import Clock
from mlip_autopipec.core.errors import EngineError, ModelError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.calibrator import Calibrator
from mlip_autopipec.daemons.demand import Demand
from mlip_autopipec.daemons.exploring import Exploration
from mlip_autopipec.daemons.finalfit import FinalFit
from mlip_autopipec.daemons.fitjob import FitAnswer, FitJob, FitRequest
from mlip_autopipec.daemons.fitter import WORK, Fitter
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.daemons.pinning import fulfil
from mlip_autopipec.daemons.queues import dft_queue
from mlip_autopipec.daemons.retention import Retention
from mlip_autopipec.daemons.upkeep import Upkeep
from mlip_autopipec.engines.pacemaker.refining import progress
from mlip_autopipec.runtime.child import Child, Result
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.publish import publish
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.taskfolder import TaskFolder

if TYPE_CHECKING:
    from mlip_autopipec.config import Config

logger = logging.getLogger(__name__)

REVIVE_TRAINER = "revive-trainer-worker"

_LOOK_S = 0.02
# A fit that takes longer leaves time for the calibration, which has its turn so often at least.
_QUICK_S = 5.0
_CALIBRATE_S = 30.0
_UNDER_WAY = ("pending", "delayed", "running")
_DRAIN_S = 20.0


@dataclass(frozen=True)
class _Running:
    """A fit in the child."""

    version: str
    parent: str | None
    task_ids: tuple[str, ...]
    new_ids: tuple[str, ...]
    begin: float
    is_final: bool = False


class TrainerWorker:
    """A `runtime.serve.Daemon` that trains. One per run: whoever makes it holds `daemons.inoffice.trainers_office`.

    Parameters
    ----------
    run, config
        Run directory and its configuration.
    name
        Name of this process.
    clock
        For the times of events.
    """

    def __init__(
        self, run: RunDirectory, config: Config, name: str = "trainer-worker", *, clock: Clock | None = None
    ) -> None:
        self.run = run
        self.config = config
        self.name = name
        self.settings = config.training
        self.registry = Registry(run.potentials)
        self.intake = Intake(
            run, config.labeller_settings(),
            force_limit=config.training.force_limit, moment_jump=config.labelling.moment_jump,
        )  # fmt: skip
        self.queue = dft_queue(run, config.queue, worker=name)
        self.events = EventLog(run.events, name, clock)
        self._control = Control(run.control)
        self._exploration = Exploration(run, config, name)
        self._upkeep = Upkeep(self.intake, self.registry, self.events)
        self._retention = Retention(run, config.retention, self.registry, self.queue.results, self.events)
        self._calibrator = Calibrator(run.calibration, self.intake, self.registry, config.otf, config.training)
        self._demand = Demand(
            self.intake, self.registry, self.settings,
            has_given=config.start.potential is not None, unfinished=self._unfinished,
        )  # fmt: skip
        self._final = FinalFit(run, config, self.registry)
        self._elements: tuple[str, ...] = ()
        self._child: Child | None = None
        self._fit: _Running | None = None
        self._next_look = self._calibrate_by = 0.0
        self._drain_until: float | None = None
        self._draining = False

    def _unfinished(self) -> int:
        """Return how many tasks may still bring a label to learn: audits do not, and with the least gamma come last."""
        tasks = self.queue.unfinished()
        if self._demand.version is None:
            tasks += self._exploration.unfinished()
        if not tasks:
            return 0
        audits = {task for folder in self.run.walkers.glob("*/audits") for task in TaskFolder(folder).ids()}
        waiting = [task for task in audits - self.intake.audits if self.queue.state(task) in _UNDER_WAY]
        return max(0, tasks - len(waiting))

    # --- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Repair what a killed trainer left, take the start structures in, warm the child up."""
        self.run.potentials.mkdir(parents=True, exist_ok=True)
        self.run.attempts.mkdir(parents=True, exist_ok=True)
        for action in self.registry.recover():
            logger.warning("%s", action)
        self.intake.load()
        self._read_start()
        self._upkeep.look()
        self._calibrator.load()
        self._demand.read_versions()
        self._ready_child()

    def step(self, now: float) -> Outcome:
        """Look after the fit; take in new labels; begin a fit if it is time."""
        if self._fit is not None:
            outcome = self._look_after_fit(self._fit, now)
            if outcome is Outcome.WORKED or self._draining:
                return outcome
        if self._draining:
            self.intake.take_results()
            return Outcome.DONE
        if now < self._next_look:
            return Outcome.IDLE
        self._next_look = now + _LOOK_S
        if self._upkeep.look():
            self._demand.read_versions()
        if self._control.wants(REVIVE_TRAINER):
            self._demand.revive()
            self._control.withdraw(REVIVE_TRAINER)
        fulfil(self._control, self.registry)
        took_in = self.intake.take_results()
        if self.intake.rest:
            self._next_look = now
            return Outcome.WORKED
        if self._fit is None:
            if self._demand.is_due(now):
                self._begin(now)
                return Outcome.WORKED
            settled = not self._demand.new() and not self._demand.lost()
            if settled and self._final.is_due(self._demand.version, self.queue.unfinished):
                self._begin(now, is_final=True)
                return Outcome.WORKED
            self._retention.look(now)
        calibrated = self._calibrate(now)
        return Outcome.WORKED if took_in or calibrated else Outcome.IDLE

    def _calibrate(self, now: float) -> bool:
        """Bring the calibration on, but not while a walker waits for a quick fit; true if there was some work."""
        if self._fit is not None and now < min(self._fit.begin + _QUICK_S, self._calibrate_by):
            return False
        self._calibrate_by = now + _CALIBRATE_S
        return self._calibrator.step()

    def drain(self) -> None:
        """Begin no fit any more; the one that runs may finish if it does so soon."""
        self._draining = True

    def close(self) -> None:
        """End the child (idempotent)."""
        self._end_child()

    def status(self) -> tuple[str, dict[str, Any]]:
        """Return the state and what it waits for; `uningested` is 0 when no fit will come any more."""
        error = self._upkeep.trouble or self._demand.lost() or self._demand.error or self._final.error
        state = "training" if self._fit else "failing" if error else "idle"
        detail: dict[str, Any] = {
            "labels": len(self.intake.labels),
            "uningested": len(self._demand.new()) + self.intake.rest + self._final.outstanding(self._demand.version),
            "refused": len(self.intake.refused),
            **({"flagged": len(self.intake.flags)} if self.intake.flags else {}),
            "waiting_for": self._demand.waiting_for,
            "version": self._demand.version,
            **({"pacemaker": steps} if self._fit and (steps := progress(self.run.attempts / WORK)) else {}),
        }
        return state, {**detail, "error": error} if error else detail

    def _read_start(self) -> None:
        start = self.config.start
        frames: dict[str, Sequence[Atoms]] = {
            key: read_structures(self.config.path(self.run, file), f"start.{key}")
            for key, file in (("structure", start.structure), ("dataset", start.dataset))
            if file is not None
        }
        self._elements = tuple(
            sorted({symbol for group in frames.values() for atoms in group for symbol in atoms.get_chemical_symbols()})
        )
        self.intake.take_frames(frames.get("dataset", []))

    def wake_folder(self) -> Path:
        """Where new labels appear."""
        return self.run.results

    def waits_for(self) -> Sequence[Connection]:
        """What becomes readable when the fit is done."""
        return self._child.sources() if self._child is not None and self._fit is not None else []

    # --- fitting ----------------------------------------------------------------------------------------------

    def _begin(self, now: float, *, is_final: bool = False) -> None:
        start, new, parent = self.config.start, sorted(self._demand.new()), self._demand.version
        given = None
        if parent is None and start.potential is not None and start.active_set is not None:
            given = (self.config.path(self.run, start.potential), self.config.path(self.run, start.active_set))
        request = FitRequest(
            tuple(sorted(self.intake.trainable)),
            given,
            parent,
            tuple(sorted(self.intake.judging)),
            self._used(),
            "pacemaker" if is_final else None,
        )
        self._fit = _Running(self.registry.next_version(), parent, request.task_ids, tuple(new), now, is_final)
        self._demand.began(len(request.task_ids))
        self.events.emit("train_started", version=self._fit.version, parent=parent, task_ids=new)
        self._ready_child().send(request)

    def _used(self) -> str | None:
        """Return the version that walkers use, None before the first, or while it is being mended."""
        try:
            current = self.registry.current()
        except ModelError:
            return None
        return current.version if current is not None else None

    def _ready_child(self) -> Child:
        if self._child is None:
            given = self.config.start.potential
            job = FitJob(
                self.run.root, self.settings, self.config.labeller_settings(), self.config.node, self._elements,
                self.config.path(self.run, given) if given else None, self.config.otf.engine, self.config.labelling,
                self.config.otf.uncertainty_threshold,
            )  # fmt: skip
            self._child = Child(Fitter, (job,), f"{self.name} fit", serves=True)
        return self._child

    def _end_child(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None

    def _look_after_fit(self, fit: _Running, now: float) -> Outcome:
        result = self._ready_child().poll()
        if result is not None:
            self._fit = None
            self._next_look = now
            self._finish(fit, result, now)
            return Outcome.WORKED
        if not self._draining:
            return Outcome.IDLE
        self._drain_until = self._drain_until or now + _DRAIN_S
        return Outcome.IDLE if now < self._drain_until else Outcome.DONE

    def _finish(self, fit: _Running, result: Result, now: float) -> None:
        if result.error is not None:
            # A fresh child for the next try: whatever was wrong with this one goes with it.
            self._end_child()
            self._failed(fit, result, now)
            return
        answer: FitAnswer = result.value
        if unseen := set(fit.task_ids).difference(answer.facts["task_ids"], answer.unusable):
            shutil.rmtree(answer.folder, ignore_errors=True)
            error = EngineError(f"{len(unseen)} label(s) left the dataset during the fit", transient=True)
            self._end_child()  # it keeps rows in memory, perhaps of another file with the same number
            self._failed(fit, Result(error=error), now)
            return
        self.intake.refuse_all(answer.unusable)
        if fit.parent is not None and fit.new_ids and not fit.is_final and set(fit.new_ids) <= set(answer.unusable):
            # Nothing is left that the walkers' version does not know: they stay where they are.
            shutil.rmtree(answer.folder, ignore_errors=True)
        else:
            self._publish(fit, answer)
        self._demand.succeeded()

    def _failed(self, fit: _Running, result: Result, now: float) -> None:
        if fit.is_final:
            self._final.failed(str(result.error))
        else:
            self._demand.failed(fit.new_ids, result, now)

    def _publish(self, fit: _Running, answer: FitAnswer) -> None:
        new = [task_id for task_id in fit.new_ids if task_id not in answer.unusable]
        manifest = {"parent": fit.parent, "new_task_ids": new, **answer.facts}
        with self.registry.work_folder(answer.folder) as folder:
            version = publish(self.registry, folder, manifest)
        reasons = answer.facts.get("candidate", [])
        told = {"candidate": "; ".join(reasons)} if reasons else {}
        self.events.emit("version_published", version=version, parent=fit.parent, task_ids=new, **told)
        logger.info("%s: %d labels, %d of them new", version, len(answer.facts["task_ids"]), len(new))
        if fault := answer.facts.get("not_refined"):
            logger.warning("%s is of the linear fit only, since pacemaker failed: %s", version, fault)
        if reasons:
            logger.warning("%s is a candidate only: %s", version, told["candidate"])
