"""What the trainer's child does: fit, active set, gate. It keeps the design rows of the structures it has seen.

The child reads the dataset and writes one work folder; publishing that is the trainer's own.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlip_autopipec.core.clock import iso_time
from mlip_autopipec.core.errors import EngineError, ModelError
from mlip_autopipec.core.interfaces import Design, LinearBasis
from mlip_autopipec.daemons.adoption import adopt, known_elements
from mlip_autopipec.daemons.bases import make_basis, warm_up
from mlip_autopipec.daemons.gate import evaluation_by, samples
from mlip_autopipec.daemons.isolated import isolated_energies
from mlip_autopipec.daemons.settings import NodeSettings
from mlip_autopipec.stages.publish import check, write_grades
from mlip_autopipec.stages.train import TrainingSettings, hashes, train
from mlip_autopipec.stages.watch import Engine
from mlip_autopipec.store.dataset import Dataset, DatasetRow
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory

_CACHE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class FitJob:
    """What stays the same for all fits of a run; pickled to the child.

    Attributes
    ----------
    root : the run directory
    elements : of the start structure and dataset; those of labels are added
    potential : .yaml that the user gave, if any: all fits keep its functions, whatever `training` says of the basis
    labeller : settings as they stand in task files
    engine : that walkers use, so that the gate sees what they will see
    """

    root: Path
    training: TrainingSettings
    labeller: dict[str, Any]
    node: NodeSettings
    elements: tuple[str, ...]
    potential: Path | None = None
    engine: Engine = "ace"


@dataclass(frozen=True)
class FitRequest:
    """One fit.

    Attributes
    ----------
    task_ids : rows of the dataset that take part
    given : (.yaml, .asi) of a potential to publish as it is instead of fitting
    """

    task_ids: tuple[str, ...]
    given: tuple[Path, Path] | None = None


@dataclass(frozen=True)
class FitAnswer:
    """A work folder that has passed the gate.

    Attributes
    ----------
    folder : to be published, or removed
    facts : what only the fit knows of the manifest
    unusable : task id -> why the row could not take part
    """

    folder: Path
    facts: dict[str, Any]
    unusable: dict[str, str] = field(default_factory=dict)


class DesignCache:
    """Design rows by task id, up to a size in bytes; the longest unused go first."""

    def __init__(self, basis: LinearBasis, limit: int = _CACHE_BYTES) -> None:
        self.basis = basis
        self._limit = limit
        self._kept: OrderedDict[str, Design] = OrderedDict()
        self._size = 0

    def __call__(self, row: DatasetRow) -> Design:
        found = self._kept.get(row.task_id)
        if found is None:
            found = self._kept[row.task_id] = self.basis.design(row.atoms)
            self._size += _size(found)
        self._kept.move_to_end(row.task_id)
        while self._size > self._limit and len(self._kept) > 1:
            self._size -= _size(self._kept.popitem(last=False)[1])
        return found


def _size(design: Design) -> int:
    projections = sum(values.nbytes for _, values in design.projections.values())
    return int(design.forces.nbytes + projections)


class Fitter:
    """Answers `FitRequest`s; made once in the child.

    Raises
    ------
    EngineError
        The engine of the fit is not installed.
    ModelError
        The given potential does not know an element, or is not linear.
    """

    def __init__(self, job: FitJob) -> None:
        self.job = job
        self.run = RunDirectory(job.root)
        self.registry = Registry(self.run.potentials)
        self._designs: DesignCache | None = None
        # Imports, tables and compilation take up to a minute: better now than when walkers wait.
        warm_up(self._designs_of(job.elements).basis)

    def __call__(self, request: FitRequest) -> FitAnswer:
        """Make a complete work folder.

        Raises
        ------
        DataError, ModelError, EngineError
            There is no fit, the gate refuses it, or the isolated atoms cannot be computed; transient if the machine
            is at fault and not the labels.
        """
        try:
            return self._answer(request)
        except (OSError, MemoryError, sqlite3.Error) as error:
            message = f"{type(error).__name__}: {error}"
            raise EngineError(message, "is there enough disk and memory?", transient=True) from error

    def _answer(self, request: FitRequest) -> FitAnswer:
        begin = time.monotonic()
        wanted = set(request.task_ids)
        rows = [row for row in Dataset(self.run.dataset).rows() if row.task_id in wanted]
        found = {*self.job.elements, *(symbol for row in rows for symbol in row.atoms.get_chemical_symbols())}
        elements = sorted(found)
        job = self.job
        priced = sorted(found.union(known_elements(request.given[0]) if request.given else ()))
        isolated = isolated_energies(self.run, priced, job.training.reference_energies, job.labeller, job.node)
        folder = self.registry.new_work_folder()
        try:
            unusable: dict[str, str] = {}
            if request.given is not None:
                facts = adopt(rows, isolated, *request.given, folder, job.engine)
            else:
                designs = self._designs_of(elements)
                rows, unusable = _usable(rows, designs)
                facts = self._fit(rows, isolated, designs, folder)
        except BaseException:
            shutil.rmtree(folder)
            raise
        facts |= {"created": iso_time(time.time()), "seconds": round(time.monotonic() - begin, 3)}
        return FitAnswer(folder, facts, unusable)

    def _fit(
        self, rows: Sequence[DatasetRow], isolated: dict[str, float], designs: DesignCache, folder: Path
    ) -> dict[str, Any]:
        settings = self.job.training
        trained = train(rows, designs.basis, settings, isolated, folder, design_of=designs)
        selected = write_grades(folder, trained.active_rows)
        chosen = samples(rows, trained.predictions, forces_entered=settings.force_weight > 0)
        check(folder, chosen, isolated, evaluation_by(self.job.engine))
        return {
            "task_ids": [row.task_id for row in rows],
            "editions": {row.task_id: row.edition for row in rows if row.edition},
            "active_set": {element: len(found.indices) for element, found in selected.items()},
            # npt walkers wait until there is one.
            "stress_labels": sum(row.stress is not None and bool(row.learned.all()) for row in rows),
            **dict(hashes(settings, designs.basis.elements)),
            **({"basis_of": str(self.job.potential)} if self.job.potential is not None else {}),
        }

    def _designs_of(self, elements: Sequence[str]) -> DesignCache:
        if self._designs is None or self._designs.basis.elements != tuple(elements):
            self._designs = DesignCache(make_basis(self.job.training, elements, self.job.potential))
        return self._designs


def _usable(rows: Sequence[DatasetRow], designs: DesignCache) -> tuple[list[DatasetRow], dict[str, str]]:
    """Compute all design rows; a structure that has none must not stop the others."""
    usable: list[DatasetRow] = []
    unusable: dict[str, str] = {}
    for row in rows:
        try:
            designs(row)
            usable.append(row)
        except ModelError as error:
            unusable[row.task_id] = str(error)
    return usable, unusable
