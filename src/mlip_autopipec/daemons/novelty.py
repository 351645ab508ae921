"""What a walker knows of the active set: that of the current version, and what waits for its label."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.asi import read_asi
from mlip_autopipec.ace.loading import load_potential
from mlip_autopipec.ace.virtual_set import VirtualSet
from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.stages.choose import Candidate
from mlip_autopipec.stages.masking import Limits, expected
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.sides import side_of
from mlip_autopipec.store.task import Task

log = logging.getLogger(__name__)

_WAITING = ("pending", "delayed", "running")


class _Version:
    """Projections and active set of one version."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        told = manifest.get("train_mask", {})
        self._mask = told.get("kind", "radius")
        self._limits = Limits.from_dict(told["limits"]) if told.get("limits") else None
        potential = load_potential(folder / "potential.yaml")
        self.evaluator = AceEvaluator(potential, threads=1)
        self.counts = dict(zip(potential.elements, potential.n_functions, strict=True))
        self.inverses = read_asi(folder / "potential.asi")

    def rows(self, task: Task) -> dict[str, FloatArray]:
        """Return per element the B-projections of the atoms that a task's label will teach."""
        atoms = task.atoms()
        values = self.evaluator.projections(neighbourhood(atoms, self.evaluator.cutoff, self.evaluator.elements))
        symbols = np.asarray(atoms.get_chemical_symbols())
        learned = expected(atoms, task.force_mask, self._mask, self._limits)
        return {
            element: values[learned & (symbols == element), : self.counts[element]]
            for element in sorted(set(symbols[learned]))
        }


class Novelty:
    """Gives virtual active sets that hold what waits for its label already.

    Parameters
    ----------
    queue
        Whose waiting tasks, of whatever walker, enter the set; those that are held out, as audits, do not.
    refused
        Gives the task ids whose label the dataset refused: no version will know them.
    """

    def __init__(self, registry: Registry, queue: TaskQueue, refused: Callable[[], Collection[str]] = tuple) -> None:
        self._registry = registry
        self._queue = queue
        self._refused = refused
        self._name: str | None = None
        self._version: _Version | None = None
        self._waiting: dict[str, Task] = {}
        self._rows: dict[str, dict[str, FloatArray]] = {}

    def use(self, version: str) -> bool:
        """Turn to a version; False if it has no B-projections to tell environments apart."""
        if version != self._name:
            self._name, self._version, self._rows = version, None, {}
            try:
                self._version = _Version(self._registry.path(version), self._registry.manifest(version))
            except AutopipeError as error:
                log.warning("%s: no candidates are collected: %s", version, error)
        return self._version is not None

    def candidate(self, task: Task) -> Candidate:
        """Return a task as something to choose.

        Raises
        ------
        AutopipeError
            Its projections cannot be computed.
        """
        return Candidate(task.id, len(task.force_mask), self._rows_of(task))

    def virtual(self) -> VirtualSet:
        """Return the active set of the version with all that waits."""
        virtual = VirtualSet(self._loaded().inverses)
        self._look()
        for task in self._waiting.values():
            try:
                virtual.enter(self._rows_of(task))
            except AutopipeError as error:  # of an element that the version does not know, say
                log.info("task %s is not in the virtual active set: %s", task.id, error)
        return virtual

    def _look(self) -> None:
        """Follow what waits: in the queue, or labelled and not yet in the version."""
        settled = {*self._registry.labels(str(self._name)), *self._refused()}
        waiting = {task.id: task for task in self._read_queue() if side_of(task.config_type, task.origin) == "train"}
        labelled = {i: t for i, t in self._waiting.items() if i not in waiting and self._queue.state(i) == "done"}
        self._waiting = {i: task for i, task in {**labelled, **waiting}.items() if i not in settled}
        self._rows = {i: rows for i, rows in self._rows.items() if i in self._waiting}

    def _read_queue(self) -> Iterator[Task]:
        for state in _WAITING:
            for _, task_id, _, path in self._queue.ls(state):
                if task_id in self._waiting:
                    yield self._waiting[task_id]
                    continue
                try:
                    yield Task.read(path)
                except (AutopipeError, OSError):  # it moved on in this moment, or is damaged
                    continue

    def _rows_of(self, task: Task) -> dict[str, FloatArray]:
        if task.id not in self._rows:
            self._rows[task.id] = self._loaded().rows(task)
        return self._rows[task.id]

    def _loaded(self) -> _Version:
        if self._version is None:
            raise ValueError("no version is in use")
        return self._version
