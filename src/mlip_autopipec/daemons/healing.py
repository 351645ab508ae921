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
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.daemons.carver import Carver
from mlip_autopipec.daemons.collector import Collector
from mlip_autopipec.daemons.haltjudge import HaltJudge
from mlip_autopipec.daemons.questions import Questions, size_of
from mlip_autopipec.stages.carve import EmbeddingSettings, NoFaithfulCell
from mlip_autopipec.stages.swap import Decision
from mlip_autopipec.stages.watch import most_uncertain_atom
from mlip_autopipec.store.halts import Halt, HaltStore, frame_to_dict
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.task import Task
from mlip_autopipec.store.taskfolder import is_in_any

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

    Attributes
    ----------
    halt : what the walker waits for
    aside : halts whose labels it does not wait for: it went on elsewhere
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
        self.carver = Carver(
            name, embedding, labeller, registry, clock or SystemClock(),
            is_audit=lambda task_id: is_in_any(folder.parent, "audits", task_id),
        )  # fmt: skip
        self.judge = HaltJudge(queue, registry, lambda: self.halt_level, refused)
        self.questions = Questions(name, self.carver, queue, events)
        self.collector = collector
        self._level = level
        self.halts = HaltStore(folder)
        self.halt: Halt | None = self.halts.read()
        self.aside = self.halts.read_aside()
        self._asked = self._count_asked()

    @property
    def halt_level(self) -> float:
        """gamma above which MD halts now."""
        return self.threshold if self._level is None else self._level()

    @property
    def extractions(self) -> int:
        """Regions that this walker has sent to labelling, audits not counted."""
        return self._asked + (self.collector.extra if self.collector else 0)

    def may_extract(self, limit: int) -> bool:
        """True if neither this walker (`limit`) nor the run has sent all the regions that it may."""
        if self.collector is not None:
            return self.collector.budget(self._asked) > 0
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
            self.collector.passed(frame, step, gamma, self.halt_level, self._asked, version, carve, audit)

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
            halt, task = self.questions.add(halt, frame, atom, evaluator)
        except NoFaithfulCell as error:
            task = None
            halt = replace(halt, refusal=error.message, warnings=[str(error)])
            log.warning("%s step %d: %s", self.name, step, error)
        regions = self._further_regions(frame, task, halt, evaluator)
        halt = replace(
            halt,
            task_ids=[*halt.task_ids, *(each.id for each in regions)],
            carves=[*halt.carves, *map(size_of, regions)],
        )
        ase.io.write(self.folder / "excursions" / f"{halt.number:04d}-step{step}.extxyz", frame)
        self.halts.open(halt)
        self.halt = halt
        self._asked = self._count_asked()
        self.questions.tell("gamma_exceeded", halt, halt.task_ids)
        if task is None:
            self.questions.tell("carve_refused", halt, reason=halt.refusal)
        else:
            self.questions.publish(task, halt, evaluator)
        for each in regions:
            self.questions.publish(each, halt, evaluator)
        if self.collector is not None:
            # MD waits in any case: what else is uncertain may come with the same version.
            self.collector.send(version, self._asked)
        return halt

    def _count_asked(self) -> int:
        """Count the halts that asked for a label: not those of which no cell was worth one."""
        open_refusal = self.halt is not None and not self.halt.task_ids
        return self.halts.count() - self.halts.refused() - open_refusal

    def _further_regions(self, frame: Atoms, first: Task | None, halt: Halt, evaluator: Evaluator) -> list[Task]:
        """Choose what else of a halted frame is worth a label; nothing, if not even its worst atom could be carved."""
        if self.collector is None or first is None:
            return []
        carve = self.carver.at(halt.step, halt.version, evaluator)
        return self.collector.regions(frame, first, halt.version, self.halt_level, self._asked, carve)

    def republish(self, evaluator: Evaluator) -> None:
        """Finish what a kill interrupted: tell of the open halt, and publish its task if it never reached the queue."""
        if self.halt is not None:
            self.halt = self._mended(self.halt, evaluator)

    def _mended(self, halt: Halt, evaluator: Evaluator) -> Halt:
        """Return a halt all of whose tasks are in the queue."""
        if all(self.queue.state(t) for t in halt.task_ids):
            return halt
        if self.collector is not None:
            self.collector.mend()  # further regions of the halted frame
        halt = self._without_lost(halt)
        if self.queue.state(halt.task_ids[0]):
            return halt
        fresh, others = replace(halt, task_ids=[], carves=[]), halt.task_ids[1:]
        try:
            found, task = self.questions.add(fresh, halt.atoms(), halt.atom, evaluator)
        except NoFaithfulCell as error:  # settings or version were changed in between
            refused = replace(fresh, task_ids=others, carves=halt.carves[1:], refusal=error.message)
            self.halts.open(refused)
            self.questions.tell("carve_refused", halt, reason=error.message)
            return refused
        if halt.task_ids[:1] != found.task_ids:  # the settings of the embedding were changed in between
            carves = [*found.carves, *halt.carves[1:]]
            halt = replace(found, task_ids=[*found.task_ids, *others], carves=carves)
            self.halts.open(halt)
        self.questions.tell_exceeded(task, halt)
        self.questions.publish(task, halt, evaluator)
        return halt

    def _without_lost(self, halt: Halt) -> Halt:
        """Forget further tasks that are nowhere any more: somebody removed them, and their labels will never come."""
        kept = [k for k, task in enumerate(halt.task_ids) if k == 0 or self.queue.state(task)]
        if len(kept) < len(halt.task_ids):
            lost = sorted(set(halt.task_ids).difference(halt.task_ids[k] for k in kept))
            log.warning("%s step %d: no longer waits for %s: not in the queue", self.name, halt.step, ", ".join(lost))
            carves = [halt.carves[k] for k in kept if k < len(halt.carves)]
            halt = replace(halt, task_ids=[halt.task_ids[k] for k in kept], carves=carves)
            self.halts.open(halt)
        return halt

    def look(self, current_version: str, evaluator: Evaluator, *, reseeds_in_a_row: int, reseed_limit: int) -> Decision:
        """Decide how the open halt goes on."""
        if self.halt is None:
            raise ValueError("no halt is open")
        self.halt, decision = self._judge(
            self.halt, current_version, evaluator, reseeds_in_a_row=reseeds_in_a_row, reseed_limit=reseed_limit
        )
        return decision

    def _judge(
        self, halt: Halt, version: str, evaluator: Evaluator, *, reseeds_in_a_row: int, reseed_limit: int
    ) -> tuple[Halt, Decision]:
        """Decide how a halt goes on; return it, perhaps with a larger cell, and the decision."""
        decision = self.judge.decide(
            halt, version, evaluator, reseeds_in_a_row=reseeds_in_a_row, reseed_limit=reseed_limit
        )
        if decision.heal_failed and (larger := self._carve_larger(halt, version, evaluator)) is not None:
            told = f"label of a larger cell: {larger.task_ids[-1]}; {decision.reason}"
            return larger, Decision("wait", told, decision.gamma)
        return halt, decision

    def put_aside(self) -> None:
        """Let the open halt wait without the walker."""
        if self.halt is not None:
            self.halts.put_aside(self.halt)
            self.aside.append(self.halt)
        self.halt = None

    def follow(self, version: str, evaluator: Evaluator) -> int:
        """End the halts aside whose labels are in, or will never be; return how many ended without being healed."""
        waiting, unhealed = [], 0
        for halt in self.aside:
            halt, decision = self._judge(
                self._mended(halt, evaluator), version, evaluator, reseeds_in_a_row=0, reseed_limit=2
            )
            if decision.action == "wait":
                waiting.append(halt)
                continue
            self._file(halt, decision, version)
            unhealed += decision.action != "swap"
        self.aside = waiting
        return unhealed

    def end(self, decision: Decision, version: str) -> None:
        """File the open halt with its outcome."""
        if self.halt is not None:
            self._file(self.halt, decision, version)
        self.halt = None

    def _file(self, halt: Halt, decision: Decision, version: str) -> None:
        outcome = {"action": decision.action, "reason": decision.reason, "version": version}
        self.halts.end(halt, {**outcome, "gamma": decision.gamma})
        self.judge.forget(halt)

    def _carve_larger(self, halt: Halt, version: str, evaluator: Evaluator) -> Halt | None:
        """Publish a larger cell, around the atom that is uncertain now, for a halt that its labels did not heal.

        The task goes into the queue before the halt names it: a kill in between repeats this, with the same task.
        Returns the halt with that task; None if no larger cell is worth a label.
        """
        if halt.retries >= _MOST_RETRIES:
            return None
        frame = halt.atoms()
        frame.arrays["gamma"] = self.judge.gamma(halt, version, evaluator)
        atom, gamma = most_uncertain_atom(frame)
        sizes = [carve["atoms"] for carve in halt.carves if carve["atom"] == atom]
        try:
            larger, task = self.questions.add(
                replace(halt, version=version), frame, atom, evaluator, more_than=max(sizes, default=0)
            )
        except NoFaithfulCell as error:
            log.warning("%s step %d: no larger cell: %s", self.name, halt.step, error)
            return None
        now = replace(halt, version=version, gamma=gamma, atom=atom)
        if self.queue.state(task.id) is None:
            self.questions.tell("heal_failed", now, halt.task_ids)
        self.questions.tell_exceeded(task, now)
        self.questions.publish(task, now, evaluator)
        # The halt's own version stays: it tells that a later one is current.
        larger = replace(larger, version=halt.version, retries=halt.retries + 1)
        self.halts.open(larger)
        return larger
