"""trainer-worker: takes labels in, refits when it is time, publishes versions; the one writer of both.

Fits run in a child process. A kill at any time loses nothing: labels lie in `results/` until they have a row, a version
appears whole or not at all, and what a version contains stands in its manifest.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import filelock
from ase import Atoms

from mlip_autopipec.core.clock import Clock
from mlip_autopipec.core.errors import EngineError, QueueError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.fitter import FitAnswer, FitJob, FitRequest, Fitter
from mlip_autopipec.daemons.intake import NO_FIT, Intake
from mlip_autopipec.daemons.queues import dft_queue
from mlip_autopipec.daemons.retries import Retries
from mlip_autopipec.daemons.upkeep import Upkeep
from mlip_autopipec.runtime.child import Child, Result
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.publish import publish
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config

logger = logging.getLogger(__name__)

REVIVE_TRAINER = "revive-trainer-worker"

_LOOK_S = 0.5
# Tasks may still be on their way to the queue when a run has just begun.
_SETTLE_S = 5.0
# A fit of fewer structures than this is not worth walking with.
_FEWEST_LABELS = 2
_DRAIN_S = 20.0


@dataclass(frozen=True)
class _Running:
    """A fit in the child."""

    version: str
    parent: str | None
    task_ids: tuple[str, ...]
    new_ids: tuple[str, ...]


class TrainerWorker:
    """A `runtime.serve.Daemon` that trains.

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
        self.intake = Intake(run, config.labeller_settings(), force_limit=config.training.force_limit)
        self.queue = dft_queue(run, config.queue, worker=name)
        self.events = EventLog(run.events, name, clock)
        self._control = Control(run.control)
        self._upkeep = Upkeep(self.intake, self.registry, self.events)
        self._lock = filelock.FileLock(run.potentials / ".trainer.lock")
        self._contained: set[str] = set()  # ids in the newest version
        self._editions: dict[str, int] = {}  # of those whose label was made again
        self._version: str | None = None
        self._elements: tuple[str, ...] = ()
        self._child: Child | None = None
        self._fit: _Running | None = None
        self._next_look = 0.0
        self._quiet_since: float | None = None
        self._waiting_for = ""
        self._error = ""
        self._retries = Retries()
        self._drain_until: float | None = None
        self._draining = False

    # --- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take the lock, repair what a killed trainer left, take the start structures in, warm the child up.

        Raises
        ------
        QueueError
            Another trainer of this run works on this host.
        """
        self.run.potentials.mkdir(parents=True, exist_ok=True)
        self.run.attempts.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise QueueError(
                f"{self.run.root}: another trainer works here", "one per run: stop the other one", transient=True
            ) from error
        for action in self.registry.recover():
            logger.warning("%s", action)
        self.intake.load()
        self._read_start()
        self._upkeep.look()
        self._read_newest_version()
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
            self._read_newest_version()
        if self._control.wants(REVIVE_TRAINER):
            logger.info("another chance, as asked")
            self._retries, self._error = Retries(), ""
            self._control.withdraw(REVIVE_TRAINER)
        took_in = self.intake.take_results()
        if self._fit is None and self._due(now):
            self._begin()
            return Outcome.WORKED
        return Outcome.WORKED if took_in else Outcome.IDLE

    def drain(self) -> None:
        """Begin no fit any more; the one that runs may finish if it does so soon."""
        self._draining = True

    def close(self) -> None:
        """End the child and free the lock (idempotent)."""
        self._end_child()
        self._lock.release()

    def status(self) -> tuple[str, dict[str, Any]]:
        """Return the state and what it waits for; `uningested` is 0 when no fit will come any more."""
        error = self._upkeep.trouble or self._lost() or self._error
        state = "training" if self._fit else "failing" if error else "idle"
        detail: dict[str, Any] = {
            "labels": len(self.intake.labels),
            "uningested": len(self._new_labels()),
            "refused": len(self.intake.refused),
            "waiting_for": self._waiting_for,
            "version": self._version,
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

    # --- when to fit ------------------------------------------------------------------------------------------

    def _new_labels(self) -> set[str]:
        relabelled = {i for i, n in self.intake.editions.items() if n > self._editions.get(i, 0)}
        return ((self.intake.labels - self._contained) | relabelled) - self.intake.refused

    def _lost(self) -> str:
        """Say which labels of the newest version are nowhere any more: nobody wants the next one from fewer."""
        lost = self.intake.lost(self._contained)
        if not lost:
            return ""
        names = ", ".join(sorted(lost)[:3]) + (", …" if len(lost) > 3 else "")
        return (
            f"{len(lost)} label(s) of {self._version} are neither in results/ nor in start.dataset ({names}): put them "
            "back, or wait for the tasks, which are labelled again; until then there is no new version"
        )

    def _due(self, now: float) -> bool:
        """True if a fit should begin; otherwise says in `_waiting_for` what is missing."""
        if self._lost():
            self._waiting_for = "the labels that are missing"
            return False
        new = self._new_labels()
        if (wait := self._retries.wait(new, now)) > 0:
            when = "`autopipe otf revive`" if math.isinf(wait) else f"another try in {wait:.0f} s"
            self._waiting_for = f"{when}, or new labels"
            return False
        if self._version is None and self.config.start.potential is not None:
            return True
        first = self._version is None
        if not first and not new:
            self._waiting_for = "new labels"
            return False
        wanted = self.settings.min_initial_labels if first else self.settings.min_new_labels
        if len(new) >= wanted:
            return True
        tasks = self.queue.unfinished()
        self._waiting_for = f"{len(new)} of {wanted} {'first' if first else 'new'} labels, {tasks} tasks under way"
        if tasks:
            self._quiet_since, self._error = None, ""
            return False
        return not first or self._no_more_can_come(len(new), now)

    def _no_more_can_come(self, labels: int, now: float) -> bool:
        """Decide a bootstrap that ended with fewer labels than wanted."""
        if self._quiet_since is None:
            self._quiet_since = now
        if now - self._quiet_since < _SETTLE_S:
            return False
        if labels >= _FEWEST_LABELS:
            logger.warning("only %d labels for the first fit, and no task is under way", labels)
            return True
        wanted = self.settings.min_initial_labels
        self._error = f"{labels} labels and no task under way: {wanted} are needed for the first potential"
        self._waiting_for = "labels: add structures to start.dataset, or `autopipe queue requeue` what failed"
        return False

    # --- fitting ----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        start, new = self.config.start, sorted(self._new_labels())
        given = None
        if self._version is None and start.potential is not None and start.active_set is not None:
            given = (self.config.path(self.run, start.potential), self.config.path(self.run, start.active_set))
        request = FitRequest(tuple(sorted(self.intake.labels - self.intake.refused)), given)
        self._fit = _Running(self.registry.next_version(), self._version, request.task_ids, tuple(new))
        self._error, self._quiet_since = "", None
        self._waiting_for = f"fit of {len(request.task_ids)} labels"
        self.events.emit("train_started", version=self._fit.version, parent=self._version, task_ids=new)
        self._ready_child().send(request)

    def _ready_child(self) -> Child:
        if self._child is None:
            given = self.config.start.potential
            job = FitJob(
                self.run.root, self.settings, self.config.labeller_settings(), self.config.node, self._elements,
                self.config.path(self.run, given) if given else None, self.config.otf.engine,
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
            self._failed(fit, Result(error=error), now)
            return
        for task_id, reason in answer.unusable.items():
            self.intake.refuse(task_id, reason)
        self._publish(fit, answer)
        self._retries = Retries()

    def _publish(self, fit: _Running, answer: FitAnswer) -> None:
        new = [task_id for task_id in fit.new_ids if task_id not in answer.unusable]
        manifest = {"parent": fit.parent, "new_task_ids": new, **answer.facts}
        try:
            version = publish(self.registry, answer.folder, manifest)
        except BaseException:
            shutil.rmtree(answer.folder, ignore_errors=True)
            raise
        self.events.emit("version_published", version=version, parent=fit.parent, task_ids=new)
        logger.info("%s: %d labels, %d of them new", version, len(answer.facts["task_ids"]), len(new))
        self._read_newest_version()

    def _failed(self, fit: _Running, result: Result, now: float) -> None:
        hopeless = self._retries.failed(fit.new_ids, result, now, first=self._version is None)
        self._error = self._retries.error
        logger.error("no new version: %s", self._error)
        if result.traceback:
            logger.debug("%s", result.traceback)
        if hopeless:
            # Walkers wait for these labels: they have to hear that none of them will come.
            for task_id in fit.new_ids:
                self.intake.refuse(task_id, f"{NO_FIT}{self._error}")
            self._error = (
                f"{len(fit.new_ids)} new label(s) were left out, since every fit with them failed: {self._error}"
            )

    def _read_newest_version(self) -> None:
        versions = self.registry.versions()
        self._version, self._contained, self._editions = None, set(), {}
        if versions:
            self._version = versions[-1]
            manifest = self.registry.manifest(self._version)
            self._contained = set(manifest["task_ids"])
            self._editions = manifest.get("editions", {})
