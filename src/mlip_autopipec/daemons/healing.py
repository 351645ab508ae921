"""How one walker asks and waits: opens a halt, publishes its task, tells when and how the halt ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from mlip_autopipec.core.clock import Clock, SystemClock, iso_time
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.events import EventLog, read_events
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.collector import Collector
from mlip_autopipec.stages.carve import EmbeddingSettings, Extraction, carve_task
from mlip_autopipec.stages.swap import Decision, decide
from mlip_autopipec.stages.watch import most_uncertain_atom
from mlip_autopipec.store.halts import Halt, HaltStore, frame_to_dict
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.task import Task

log = logging.getLogger(__name__)


class Healing:
    """The halts of one walker.

    Parameters
    ----------
    folder
        `walkers/wNN/`.
    labeller
        Labeller settings that go into the tasks.
    threshold, level
        gamma above which MD halts; `level`, if given, says what it is now.
    refused
        Gives the task ids whose label the dataset refused.
    collector
        Takes candidates and audits from frames that do not halt; None: only halts ask for labels.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        embedding: EmbeddingSettings,
        threshold: float,
        labeller: dict[str, Any],
        queue: TaskQueue,
        registry: Registry,
        events: EventLog,
        refused: Callable[[], set[str]],
        clock: Clock | None = None,
        level: Callable[[], float] | None = None,
        collector: Collector | None = None,
    ) -> None:
        self.folder = folder
        self.name = name
        self.embedding = embedding
        self.threshold = threshold
        self.labeller = labeller
        self.queue = queue
        self.registry = registry
        self.events = events
        self.refused = refused
        self.clock = clock or SystemClock()
        self.collector = collector
        self._level = level
        self.halts = HaltStore(folder)
        self._halts = self.halts.count()
        self.halt: Halt | None = self.halts.read()
        self._gammas: dict[str, float] = {}  # of the open halt's frame, by version

    @property
    def halt_level(self) -> float:
        """gamma above which MD halts now."""
        return self.threshold if self._level is None else self._level()

    @property
    def extractions(self) -> int:
        """Regions that this walker has sent to labelling, audits not counted."""
        return self._halts + (self.collector.extra if self.collector else 0)

    def may_extract(self, limit: int) -> bool:
        """True if neither this walker (`limit`) nor the run has sent all the regions that it may."""
        if self.collector is not None:
            return self.collector.budget(self._halts) > 0
        return self.extractions < limit

    def passed(self, frame: Callable[[], Atoms], step: int, gamma: float, version: str, evaluator: Evaluator) -> None:
        """Let candidates and audits be taken from a frame that is below the halt level.

        Parameters
        ----------
        frame
            Gives it, with the array `gamma`.
        gamma
            Its largest.
        """
        if self.collector is not None:
            carve = self._carver(step, version, evaluator)
            self.collector.passed(frame, step, gamma, self.halt_level, self._halts, version, carve)

    def open(self, frame: Atoms, step: int, version: str, evaluator: Evaluator) -> Halt:
        """Write the halt, then publish its task: a kill in between is mended by `republish`."""
        atom, gamma = most_uncertain_atom(frame)
        task, warnings = self._carve(frame, atom, step, version, evaluator.cutoff)
        tasks, number = [task], self.halts.count()
        if self.collector is not None:
            carve = self._carver(step, version, evaluator)
            tasks += self.collector.regions(frame, task, version, self.halt_level, number, carve)
        halt = Halt(
            number=number + 1,
            walker=self.name,
            step=step,
            gamma=gamma,
            atom=atom,
            version=version,
            frame=frame_to_dict(frame),
            task_ids=[t.id for t in tasks],
            warnings=list(warnings),
        )
        ase.io.write(self.folder / "excursions" / f"{halt.number:04d}-step{step}.extxyz", frame)
        self.halts.open(halt)
        self.halt = halt
        self._halts = halt.number
        self.events.emit("gamma_exceeded", task_ids=halt.task_ids, **self._facts(halt))
        for each in tasks:
            self._publish(each, halt)
        if self.collector is not None:
            # MD waits in any case: what else is uncertain may come with the same version.
            self.collector.send(version, halt.number)
        return halt

    def republish(self, evaluator: Evaluator) -> None:
        """Finish what a kill interrupted: tell of the open halt, and publish its task if it never reached the queue."""
        halt = self.halt
        if halt is None or all(self.queue.state(t) for t in halt.task_ids):
            return
        task, _ = self._carve(halt.atoms(), halt.atom, halt.step, halt.version, evaluator.cutoff)
        # Further regions lie in `sent/`, from where the collector's `mend` publishes them.
        if halt.task_ids[:1] != [task.id]:  # the settings of the embedding were changed in between
            self.halt = halt = replace(halt, task_ids=[task.id, *halt.task_ids[1:]])
            self.halts.open(halt)
        told = any(
            event["event"] == "gamma_exceeded" and task.id in event["task_ids"]
            for event in read_events(self.events.path)
        )
        if not told:
            self.events.emit("gamma_exceeded", task_ids=halt.task_ids, recovered=True, **self._facts(halt))
        self._publish(task, halt)
        if self.collector is not None:
            self.collector.mend()

    def look(self, current_version: str, evaluator: Evaluator, *, reseeds_in_a_row: int, reseed_limit: int) -> Decision:
        """Decide how the open halt goes on."""
        halt = self.halt
        if halt is None:
            raise ValueError("no halt is open")
        refused = self.refused()
        newest = self._newest(current_version)
        return decide(
            halted_version=halt.version,
            current_version=current_version,
            contained={*self.registry.labels(current_version), *self.registry.labels(newest)},
            holder=newest,
            task_states={t: "refused" if t in refused else self.queue.state(t) for t in halt.task_ids},
            threshold=self.halt_level,
            reseeds_in_a_row=reseeds_in_a_row,
            reseed_limit=reseed_limit,
            gamma_now=lambda: self._gamma_now(halt, current_version, evaluator),
        )

    def brought_labels(self, halt: Halt, version: str) -> bool:
        """True if `version` has labels of this halt that the halted one did not have."""
        held, now = self.registry.labels(halt.version), self.registry.labels(version)
        return any(task in now and task not in held for task in halt.task_ids)

    def end(self, decision: Decision, version: str) -> None:
        """File the open halt with its outcome."""
        if self.halt is not None:
            outcome = {"action": decision.action, "reason": decision.reason, "version": version}
            self.halts.end(self.halt, {**outcome, "gamma": decision.gamma})
        self.halt = None
        self._gammas.clear()

    def _newest(self, version: str) -> str:
        """Return the version whose labels nobody needs to wait for: `version`, or a newer one that the user left.

        The trainer has used those, so no further version will come for their sake.
        """
        try:
            current = self.registry.current()
        except ModelError:  # the trainer repairs it, or asks a person
            return version
        # `newest` is replaced together with the current version: a version that is just being published is neither.
        return current.newest if current is not None and current.version == version else version

    def _gamma_now(self, halt: Halt, version: str, evaluator: Evaluator) -> float:
        """Largest gamma of the halted frame under `version`."""
        if version not in self._gammas:
            frame = neighbourhood(halt.atoms(), evaluator.cutoff, evaluator.elements)
            gamma = evaluator.evaluate(frame, gamma=True).gamma
            if gamma is None:
                raise ModelError(f"{version}: has no active set, so nothing can be watched", "roll back to another")
            self._gammas[version] = float(gamma.max())
        return self._gammas[version]

    def _carver(self, step: int, version: str, evaluator: Evaluator) -> Callable[[Atoms, int], Extraction]:
        return lambda frame, atom: self._extract(frame, atom, step, version, evaluator.cutoff)

    def _carve(self, frame: Atoms, atom: int, step: int, version: str, cutoff: float) -> tuple[Task, tuple[str, ...]]:
        extraction = self._extract(frame, atom, step, version, cutoff)
        return extraction.task, extraction.warnings

    def _extract(self, frame: Atoms, atom: int, step: int, version: str, cutoff: float) -> Extraction:
        extraction = carve_task(
            frame,
            atom,
            settings=self.embedding,
            potential_cutoff=cutoff,
            labeller=self.labeller,
            origin={"walker": self.name, "step": step, "version": version},
            created=iso_time(self.clock.wall()),
        )
        for warning in extraction.warnings:
            log.warning("%s step %d: %s", self.name, step, warning)
        return extraction

    def _publish(self, task: Task, halt: Halt) -> None:
        if self.queue.publish(task):
            self.events.emit("task_published", task_ids=[task.id], **self._facts(halt))

    def _facts(self, halt: Halt) -> dict[str, Any]:
        facts = {"walker": self.name, "step": halt.step, "gamma": halt.gamma, "atom": halt.atom}
        return {**facts, "version": halt.version}
