"""How one walker asks and waits: opens a halt, publishes its task, tells when and how the halt ends."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
from ase import Atoms

from mlip_autopipec.core.clock import Clock, SystemClock
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.events import EventLog, read_events
from mlip_autopipec.core.interfaces import Evaluator, FloatArray
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.carver import Carver
from mlip_autopipec.daemons.collector import Collector
from mlip_autopipec.stages.carve import (
    EmbeddingSettings,
    NoFaithfulCell,
)
from mlip_autopipec.stages.swap import Decision, decide
from mlip_autopipec.stages.watch import most_uncertain_atom
from mlip_autopipec.store.halts import Halt, HaltStore, frame_to_dict
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.task import Task

log = logging.getLogger(__name__)

# Larger cells of one halted frame; then the walker goes on elsewhere.
_MOST_RETRIES = 2


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
        self.threshold = threshold
        self.queue = queue
        self.registry = registry
        self.events = events
        self.refused = refused
        self.carver = Carver(name, embedding, labeller, registry, clock or SystemClock())
        self.collector = collector
        self._level = level
        self.halts = HaltStore(folder)
        self._halts = self.halts.count()
        self.halt: Halt | None = self.halts.read()
        self._gammas: dict[str, FloatArray] = {}  # of the open halt's frame, by version

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
            carve = self.carver.at(step, version, evaluator)
            # An audit that is left out because its cell is poor would make the sample a biased one.
            audit = self.carver.at(step, version, evaluator, lenient=True)
            self.collector.passed(frame, step, gamma, self.halt_level, self._halts, version, carve, audit)

    def open(self, frame: Atoms, step: int, version: str, evaluator: Evaluator) -> Halt:
        """Write the halt, then publish its task: a kill in between is mended by `republish`."""
        atom, gamma = most_uncertain_atom(frame)
        number = self.halts.count()
        halt = Halt(
            number=number + 1,
            walker=self.name,
            step=step,
            gamma=gamma,
            atom=atom,
            version=version,
            frame=frame_to_dict(frame),
            task_ids=[],
        )
        try:
            halt, task = self._with_task(halt, frame, atom, evaluator)
        except NoFaithfulCell as error:
            task = None
            halt = replace(halt, refusal=error.message, warnings=[str(error)])
            log.warning("%s step %d: %s", self.name, step, error)
        regions = self._further_regions(frame, task, halt, evaluator)
        halt = replace(
            halt,
            task_ids=[*halt.task_ids, *(each.id for each in regions)],
            carves=[*halt.carves, *map(_size_of, regions)],
        )
        ase.io.write(self.folder / "excursions" / f"{halt.number:04d}-step{step}.extxyz", frame)
        self.halts.open(halt)
        self.halt = halt
        self._halts = halt.number
        self.events.emit("gamma_exceeded", task_ids=halt.task_ids, **self._facts(halt))
        if task is None:
            self.events.emit("carve_refused", reason=halt.refusal, **self._facts(halt))
        else:
            self._publish(task, halt, evaluator)
        for each in regions:
            self._publish(each, halt, evaluator)
        if self.collector is not None:
            # MD waits in any case: what else is uncertain may come with the same version.
            self.collector.send(version, halt.number)
        return halt

    def _further_regions(self, frame: Atoms, first: Task | None, halt: Halt, evaluator: Evaluator) -> list[Task]:
        """Choose what else of a halted frame is worth a label; nothing, if not even its worst atom could be carved."""
        if self.collector is None or first is None:
            return []
        carve = self.carver.at(halt.step, halt.version, evaluator)
        return self.collector.regions(frame, first, halt.version, self.halt_level, halt.number - 1, carve)

    def republish(self, evaluator: Evaluator) -> None:
        """Finish what a kill interrupted: tell of the open halt, and publish its task if it never reached the queue."""
        halt = self.halt
        if halt is None or all(self.queue.state(t) for t in halt.task_ids):
            return
        if self.collector is not None:
            self.collector.mend()  # further regions of the halted frame
        halt = self._without_lost(halt)
        if self.queue.state(halt.task_ids[0]):
            return
        fresh, others = replace(halt, task_ids=[], carves=[]), halt.task_ids[1:]
        try:
            found, task = self._with_task(fresh, halt.atoms(), halt.atom, evaluator)
        except NoFaithfulCell as error:  # settings or version were changed in between
            self.halt = replace(fresh, task_ids=others, carves=halt.carves[1:], refusal=error.message)
            self.halts.open(self.halt)
            self.events.emit("carve_refused", reason=error.message, **self._facts(halt))
            return
        if halt.task_ids[:1] != found.task_ids:  # the settings of the embedding were changed in between
            carves = [*found.carves, *halt.carves[1:]]
            self.halt = halt = replace(found, task_ids=[*found.task_ids, *others], carves=carves)
            self.halts.open(halt)
        self._tell_exceeded(task, halt)
        self._publish(task, halt, evaluator)

    def _without_lost(self, halt: Halt) -> Halt:
        """Forget further tasks that are nowhere any more: somebody removed them, and their labels will never come."""
        kept = [k for k, task in enumerate(halt.task_ids) if k == 0 or self.queue.state(task)]
        if len(kept) < len(halt.task_ids):
            lost = sorted(set(halt.task_ids).difference(halt.task_ids[k] for k in kept))
            log.warning("%s step %d: no longer waits for %s: not in the queue", self.name, halt.step, ", ".join(lost))
            carves = [halt.carves[k] for k in kept if k < len(halt.carves)]
            self.halt = halt = replace(halt, task_ids=[halt.task_ids[k] for k in kept], carves=carves)
            self.halts.open(halt)
        return halt

    def look(self, current_version: str, evaluator: Evaluator, *, reseeds_in_a_row: int, reseed_limit: int) -> Decision:
        """Decide how the open halt goes on."""
        halt = self.halt
        if halt is None:
            raise ValueError("no halt is open")
        refused = self.refused()
        newest = self._newest(current_version)
        decision = decide(
            halted_version=halt.version,
            current_version=current_version,
            contained={*self.registry.labels(current_version), *self.registry.labels(newest)},
            holder=newest,
            task_states={t: "refused" if t in refused else self.queue.state(t) for t in halt.task_ids},
            threshold=self.halt_level,
            reseeds_in_a_row=reseeds_in_a_row,
            reseed_limit=reseed_limit,
            gamma_now=lambda: float(self._gamma_now(halt, current_version, evaluator).max()),
            refusal=halt.refusal,
        )
        if decision.heal_failed:
            larger = self._carve_larger(halt, current_version, evaluator)
            if larger is not None:
                return Decision("wait", f"label of a larger cell: {larger.id}; {decision.reason}", decision.gamma)
        return decision

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

    def _gamma_now(self, halt: Halt, version: str, evaluator: Evaluator) -> FloatArray:
        """Return (N,) gamma of the halted frame under `version`."""
        if version not in self._gammas:
            frame = neighbourhood(halt.atoms(), evaluator.cutoff, evaluator.elements)
            gamma = evaluator.evaluate(frame, gamma=True).gamma
            if gamma is None:
                raise ModelError(f"{version}: has no active set, so nothing can be watched", "roll back to another")
            self._gammas[version] = gamma
        return self._gammas[version]

    def _carve_larger(self, halt: Halt, version: str, evaluator: Evaluator) -> Task | None:
        """Publish a larger cell, around the atom that is uncertain now, for a halt that its labels did not heal.

        The task goes into the queue before the halt names it: a kill in between repeats this, with the same task.
        """
        if halt.retries >= _MOST_RETRIES:
            return None
        frame = halt.atoms()
        frame.arrays["gamma"] = self._gamma_now(halt, version, evaluator)
        atom, gamma = most_uncertain_atom(frame)
        sizes = [carve["atoms"] for carve in halt.carves if carve["atom"] == atom]
        try:
            larger, task = self._with_task(
                replace(halt, version=version), frame, atom, evaluator, more_than=max(sizes, default=0)
            )
        except NoFaithfulCell as error:
            log.warning("%s step %d: no larger cell: %s", self.name, halt.step, error)
            return None
        now = replace(halt, version=version, gamma=gamma, atom=atom)
        if self.queue.state(task.id) is None:
            self.events.emit("heal_failed", task_ids=halt.task_ids, **self._facts(now))
        self._tell_exceeded(task, now)
        self._publish(task, now, evaluator)
        # The halt's own version stays: it tells that a later one is current.
        self.halt = replace(larger, version=halt.version, retries=halt.retries + 1)
        self.halts.open(self.halt)
        return task

    def _with_task(
        self, halt: Halt, frame: Atoms, atom: int, evaluator: Evaluator, more_than: int = 0
    ) -> tuple[Halt, Task]:
        """Return the halt with one more task, and that task.

        Raises
        ------
        NoFaithfulCell
            Nothing within the settings' limits is worth a label.
        """
        extraction = self.carver.carve(
            frame, atom, halt.step, halt.version, evaluator, more_than=more_than, published=halt.task_ids
        )
        task = extraction.task
        return replace(
            halt,
            task_ids=[*halt.task_ids, task.id],
            carves=[*halt.carves, _size_of(task)],
            warnings=[*halt.warnings, *extraction.warnings],
        ), task

    def _tell_exceeded(self, task: Task, halt: Halt) -> None:
        """Tell once why a task was asked for, whatever kill came before."""
        told = any(
            event["event"] == "gamma_exceeded" and task.id in event["task_ids"]
            for event in read_events(self.events.path)
        )
        if not told:
            recovered = {"recovered": True} if task.id in halt.task_ids else {}
            self.events.emit("gamma_exceeded", task_ids=[task.id], **recovered, **self._facts(halt))

    def _publish_whole_cell(self, task: Task, halt: Halt, evaluator: Evaluator) -> None:
        """Ask for a whole cell of the halted frame's phase: with a walker's first halt, then with a share of them."""
        is_first = halt.number == 1 and halt.task_ids[0] == task.id
        whole = self.carver.whole_cell(halt.atoms(), task, halt.step, halt.version, evaluator, wanted=is_first)
        if whole is not None and self.queue.publish(whole):
            # Without a walker: nobody's gamma asked for it.
            facts = {key: whole.origin[key] for key in ("source", "step", "version")}
            self.events.emit("task_published", task_ids=[whole.id], **facts)

    def _publish(self, task: Task, halt: Halt, evaluator: Evaluator) -> None:
        # First, so that a kill in between is mended together with the carved one.
        self._publish_whole_cell(task, halt, evaluator)
        if self.queue.publish(task):
            self.events.emit("task_published", task_ids=[task.id], **self._facts(halt))

    def _facts(self, halt: Halt) -> dict[str, Any]:
        facts = {"walker": self.name, "step": halt.step, "gamma": halt.gamma, "atom": halt.atom}
        return {**facts, "version": halt.version}


def _size_of(task: Task) -> dict[str, int]:
    """Return what a halt remembers of a carve."""
    return {"atom": int(task.origin["center"]), "atoms": len(task.force_mask)}
