"""What a walker collects on its way without halting: candidates for labels, and audits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from mlip_autopipec.core.errors import AutopipeError, DataError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.auditor import Auditor
from mlip_autopipec.daemons.novelty import Novelty
from mlip_autopipec.stages.calibrate import AUDIT
from mlip_autopipec.stages.carve import Extraction
from mlip_autopipec.stages.choose import Candidate, CostModel, choose, distinct_regions
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.task import Task
from mlip_autopipec.store.taskfolder import TaskFolder
from mlip_autopipec.store.walkerstate import read_all

log = logging.getLogger(__name__)

CANDIDATE = "candidate"
# ``carve(frame, atom)``: the region around one atom, as a task.
Carve = Callable[[Atoms, int], Extraction]


class Collector:
    """The candidates and audits of one walker.

    `candidates/` of the walker's folder holds the tasks that may be sent, `sent/` those that were (and further regions
    of halted frames), `audits/` its audits. A task is kept before it is published: `mend` publishes what a kill left.

    Parameters
    ----------
    folder
        `walkers/wNN/`.
    apart
        Least distance of the centres of two regions of one frame, A.
    measured
        Gives (atoms, core-seconds) of finished labels.
    """

    def __init__(
        self,
        folder: Path,
        otf: OtfSettings,
        *,
        auditor: Auditor,
        novelty: Novelty,
        queue: TaskQueue,
        events: EventLog,
        apart: float,
        measured: Callable[[], Iterable[tuple[int, float]]] = tuple,
    ) -> None:
        self._folder = folder
        self._otf = otf
        self._auditor = auditor
        self._novelty = novelty
        self._queue = queue
        self._events = events
        self._apart = apart
        self._measured = measured
        self.candidates = TaskFolder(folder / "candidates")
        self.sent = TaskFolder(folder / "sent")
        self.audits = TaskFolder(folder / "audits")
        self._sent, self._audited = self.sent.count(), self.audits.count()
        self._next_step = 0
        self._mended = False

    @property
    def extra(self) -> int:
        """Regions sent beside the first one of each halt."""
        return self._sent

    def mend(self) -> None:
        """Publish what a kill kept from the queue (idempotent)."""
        self._mended = True
        for folder in (self.sent, self.audits):
            for task in folder.tasks():
                self._publish(task)

    def passed(self, frame: Callable[[], Atoms], step: int, gamma: float, level: float, halts: int, version: str,
               carve: Carve, carve_audit: Carve) -> None:  # fmt: skip
        """Look at a frame that MD passed without a halt.

        Parameters
        ----------
        frame
            Gives it, with the array `gamma`; called only if it is wanted.
        gamma, level
            Its largest gamma, and that at which MD halts.
        halts
            Regions sent by halts so far.
        carve, carve_audit
            Cut the region of a candidate, and of an audit, which is sent however good its cell is.
        """
        if not self._mended:
            self.mend()
        if self._auditor.wants(step, self._audited, halts + self._sent):
            self._audit(frame(), step, level, carve_audit)
        collects = self._otf.max_candidates > 0 and self._otf.selection_threshold < gamma <= level
        if collects and step >= self._next_step and self._novelty.use(version):
            # Frames that follow each other closely say the same.
            self._next_step = step + self._otf.snapshot_interval
            self._collect(frame(), carve)
            if self.candidates.count() >= self._otf.max_candidates:
                self.send(version, halts)

    def regions(self, frame: Atoms, first: Task, version: str, level: float, halts: int, carve: Carve) -> list[Task]:
        """Choose further regions of a halted frame, beside the one of `first`, and keep them as sent."""
        most = min(self._otf.regions_per_frame - 1, self.budget(halts + 1))
        if most < 1 or not self._novelty.use(version):
            return []
        atoms = distinct_regions(frame, apart=self._apart, threshold=level, most=self._otf.regions_per_frame)
        tasks = _carved(carve, frame, atoms[1:])
        chosen = self._choose([task for task in tasks if task.id != first.id], level, most, entering=first)
        for task in chosen:
            self._keep(task)
        return chosen

    def send(self, version: str, halts: int) -> list[Task]:
        """Publish the best of the candidates, forget those that are known by now; return the published ones."""
        tasks = self._read_candidates()
        if not tasks or not self._novelty.use(version):
            return []
        chosen = self._choose(tasks, self._otf.selection_threshold, self.budget(halts), entering=None)
        for task in chosen:
            self._keep(task)
            self._publish(task)
        log.info("%d of %d candidates are sent to labelling", len(chosen), len(tasks))
        for task in tasks:
            self.candidates.remove(task.id)
        return chosen

    def budget(self, halts: int) -> int:
        """Return how many regions this walker may still send, when `halts` were sent by halts."""
        left = self._otf.max_extractions - halts - self._sent
        if self._otf.max_extractions_run is not None:
            others = sum(s.extractions for s in read_all(self._folder.parent) if s.name != self._folder.name)
            left = min(left, self._otf.max_extractions_run - others - halts - self._sent)
        return max(0, left)

    def _collect(self, frame: Atoms, carve: Carve) -> None:
        """Keep the regions of a frame that neither the version nor what was collected before knows."""
        threshold, most = self._otf.selection_threshold, self._otf.regions_per_frame
        virtual, kept = self._novelty.virtual(), self._read_candidates()
        for candidate in self._as_candidates(kept):
            virtual.enter(candidate.rows)
        peaks = distinct_regions(frame, apart=self._apart, threshold=threshold, most=most)
        tasks = _carved(carve, frame, peaks)
        room = self._otf.max_candidates - len(kept)
        chosen, _ = choose(self._as_candidates(tasks), virtual, threshold=threshold, cost=CostModel(), most=room)
        named = {task.id: task for task in tasks}
        for found in chosen:
            self.candidates.add(_of_kind(named[found.name], CANDIDATE, {}))

    def _choose(self, tasks: Sequence[Task], threshold: float, most: int, *, entering: Task | None) -> list[Task]:
        virtual = self._novelty.virtual()
        if entering is not None:
            virtual.enter(self._novelty.candidate(entering).rows)
        cost = CostModel.learned(self._measured())
        chosen, _ = choose(self._as_candidates(tasks), virtual, threshold=threshold, cost=cost, most=most)
        named = {task.id: task for task in tasks}
        return [named[found.name] for found in chosen]

    def _as_candidates(self, tasks: Iterable[Task]) -> list[Candidate]:
        found = []
        for task in tasks:
            try:
                found.append(self._novelty.candidate(task))
            except AutopipeError as error:
                log.warning("candidate %s is left out: %s", task.id, error)
        return found

    def _read_candidates(self) -> list[Task]:
        tasks = []
        for task_id in self.candidates.ids():
            try:
                tasks.append(self.candidates.read(task_id))
            except AutopipeError as error:
                log.warning("candidate %s is left out: %s", task_id, error)
        return tasks

    def _audit(self, frame: Atoms, step: int, level: float, carve: Carve) -> None:
        """Ask for the label of a random environment."""
        atom = self._auditor.atom(step, self._audited, frame.arrays["gamma"], level)
        if atom is None:
            return
        try:
            found = carve(frame, atom)
        except DataError as error:
            log.warning("step %d: atom %d is not audited: %s", step, atom, error)
            return
        # Only the atom that was drawn: its neighbours are no further draws. And no other task has this mask.
        mask = [int(i == found.center) for i in range(len(found.task.force_mask))]
        task = _of_kind(found.task, AUDIT, {"level": level}, mask)
        if self._queue.state(task.id) is not None:  # its core is this atom alone, and somebody learns from it
            log.info("step %d: atom %d is not audited: its label is asked for already", step, atom)
            return
        # A candidate of the same id gives way: the sample must be a fair one.
        self.candidates.remove(task.id)
        self.audits.add(task)
        self._audited = self.audits.count()
        self._publish(task)

    def _keep(self, task: Task) -> None:
        self.sent.add(task)
        self._sent = self.sent.count()

    def _publish(self, task: Task) -> None:
        if self._queue.publish(task):
            told = {key: task.origin[key] for key in ("walker", "step", "version", "collected") if key in task.origin}
            self._events.emit("task_published", task_ids=[task.id], gamma=task.priority, **told)


def _carved(carve: Carve, frame: Atoms, atoms: Iterable[int]) -> list[Task]:
    """Return the regions around `atoms`; those of which there is no faithful cell are left out."""
    tasks = []
    for atom in atoms:
        try:
            tasks.append(carve(frame, atom).task)
        except DataError as error:
            log.warning("atom %d is left out: %s", atom, error)
    return tasks


def _of_kind(task: Task, kind: str, origin: dict[str, Any], mask: list[int] | None = None) -> Task:
    """Return the task with another kind, and perhaps mask, which makes another id."""
    return Task.new(
        task.atoms(), task.force_mask if mask is None else mask, task.labeller,
        priority=task.priority, origin={**task.origin, **origin, "collected": kind}, config_type=kind,
        created=task.created,
    )  # fmt: skip
