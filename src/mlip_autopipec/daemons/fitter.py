"""What the trainer's child does: fit, active set, gate. It keeps the design rows of the structures it has seen.

The child reads the dataset and writes one work folder; publishing it is the trainer's own.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.core.clock import iso_time
from mlip_autopipec.core.errors import DataError, ModelError
from mlip_autopipec.core.files import write_json, write_text
from mlip_autopipec.core.interfaces import Design, Evaluation, LinearBasis
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.daemons.labellers import make_labeller
from mlip_autopipec.daemons.settings import NodeSettings
from mlip_autopipec.stages.publish import Sample, check, write_grades
from mlip_autopipec.stages.train import Prediction, Trained, TrainingSettings, errors, hashes, train
from mlip_autopipec.store.dataset import Dataset, DatasetRow
from mlip_autopipec.store.registry import Registry, reference_energies, write_reference_energies
from mlip_autopipec.store.rundir import RunDirectory

_CACHE_BYTES = 1_000_000_000
_SAMPLES = 4


@dataclass(frozen=True)
class FitJob:
    """What stays the same for all fits of a run; pickled to the child.

    Attributes
    ----------
    root : the run directory
    elements : of the start structure and dataset; those of labels are added
    labeller : settings as they stand in task files
    """

    root: Path
    training: TrainingSettings
    labeller: dict[str, Any]
    node: NodeSettings
    elements: tuple[str, ...]


@dataclass(frozen=True)
class FitRequest:
    """One fit.

    Attributes
    ----------
    task_ids : rows of the dataset that take part
    adopt : (.yaml, .asi) of a potential to publish as it is instead of fitting
    """

    task_ids: tuple[str, ...]
    adopt: tuple[Path, Path] | None = None


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
    """Answers `FitRequest`s; made once in the child."""

    def __init__(self, job: FitJob) -> None:
        self.job = job
        self.run = RunDirectory(job.root)
        self.registry = Registry(self.run.potentials)
        self._designs: DesignCache | None = None

    def __call__(self, request: FitRequest) -> FitAnswer:
        """Make a complete work folder.

        Raises
        ------
        DataError, ModelError, EngineError
            There is no fit, the gate refuses it, or the isolated atoms cannot be computed.
        """
        begin = time.monotonic()
        wanted = set(request.task_ids)
        rows = [row for row in Dataset(self.run.dataset).rows() if row.task_id in wanted]
        folder = self.registry.new_work_folder()
        try:
            if request.adopt is not None:
                facts, unusable = self._adopt(rows, folder, *request.adopt), {}
            else:
                facts, unusable = self._fit(rows, folder)
        except BaseException:
            shutil.rmtree(folder)
            raise
        facts["created"] = iso_time(time.time())
        facts["seconds"] = {**facts.get("seconds", {}), "total": round(time.monotonic() - begin, 3)}
        return FitAnswer(folder, facts, unusable)

    # --- a fit ------------------------------------------------------------------------------------------------

    def _fit(self, rows: Sequence[DatasetRow], folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
        elements = sorted({*self.job.elements, *(s for row in rows for s in row.atoms.get_chemical_symbols())})
        designs = self._designs_of(elements)
        marks = [time.monotonic()]
        usable, unusable = self._usable(rows, designs)
        marks.append(time.monotonic())
        isolated = self._isolated(elements)
        trained = train(usable, designs.basis, self.job.training, isolated, folder, design_of=designs)
        marks.append(time.monotonic())
        write_grades(folder, trained.active_rows)
        check(folder, _samples(usable, trained, self.job.training), isolated, evaluate)
        marks.append(time.monotonic())
        names = ("design", "fit", "active_set_and_gate")
        seconds = {name: round(b - a, 3) for name, a, b in zip(names, marks[:-1], marks[1:], strict=True)}
        facts: dict[str, Any] = {"task_ids": [row.task_id for row in usable], "seconds": seconds}
        return {**facts, **dict(hashes(self.job.training, elements))}, unusable

    def _designs_of(self, elements: Sequence[str]) -> DesignCache:
        if self._designs is None or self._designs.basis.elements != tuple(elements):
            from mlip_autopipec.engines.pacemaker.basis import PyaceBasis, new_basis
            from mlip_autopipec.structures.neighbours import neighbourhood

            self._designs = DesignCache(PyaceBasis(new_basis(self.job.training.basis, elements), neighbourhood))
        return self._designs

    @staticmethod
    def _usable(rows: Sequence[DatasetRow], designs: DesignCache) -> tuple[list[DatasetRow], dict[str, str]]:
        """Compute all design rows; a structure that has none must not stop the others."""
        usable, unusable = [], {}
        for row in rows:
            try:
                designs(row)
                usable.append(row)
            except ModelError as error:
                unusable[row.task_id] = str(error)
        return usable, unusable

    # --- a potential that the user brought --------------------------------------------------------------------

    def _adopt(self, rows: Sequence[DatasetRow], folder: Path, potential: Path, active_set: Path) -> dict[str, Any]:
        from mlip_autopipec.engines.pacemaker.basis import read_basis, write_files

        basis = read_basis(potential)
        elements = tuple(basis.elements_name)
        isolated = self._isolated(elements)
        write_files(basis, isolated, folder)
        shutil.copyfile(potential, folder / "potential.yaml")
        shutil.copyfile(active_set, folder / "potential.asi")
        predictions = {}
        known = [row for row in rows if set(row.atoms.get_chemical_symbols()) <= set(elements)]
        for row in known:
            result = evaluate(folder / "potential.yaml", folder / "potential.asi", row.atoms)
            predictions[row.task_id] = Prediction(result.energy, result.forces)
        write_json(folder / "metrics.json", errors(known, predictions, isolated) if known else {"structures": 0})
        origin = {"trainer": "given", "potential": str(potential), "active_set": str(active_set)}
        energies = {element: float(isolated[element]) for element in elements}
        write_text(folder / "train_config.yaml", dump_mapping({**origin, "isolated_atom_energies": energies}))
        check(
            folder,
            [_sample(row, predictions[row.task_id], nobody(row)) for row in known[:_SAMPLES]],
            isolated,
            evaluate,
        )
        return {"task_ids": [row.task_id for row in rows], **origin}

    # --- isolated atoms ---------------------------------------------------------------------------------------

    def _isolated(self, elements: Sequence[str]) -> dict[str, float]:
        """Return the energy of one free atom of each element, eV; computed once per run."""
        given = self.job.training.reference_energies
        if given != "isolated":
            missing = sorted(set(elements) - set(given))
            if missing:
                raise DataError(
                    f"training.reference_energies: {missing[0]} is missing",
                    "give all elements, or `isolated`",
                )
            energies = {element: float(given[element]) for element in elements}
            write_reference_energies(self.registry, energies)
            return energies
        known = reference_energies(self.registry)
        missing = sorted(set(elements) - set(known))
        if missing:
            labeller = make_labeller(self.job.labeller, self.job.node)
            for element in missing:
                with tempfile.TemporaryDirectory(prefix=f"isolated-{element}-", dir=self.run.attempts) as scratch:
                    known[element] = float(labeller.isolated_atom_energy(element, Path(scratch)))
                write_reference_energies(self.registry, known)
        return known


def evaluate(potential: Path, active_set: Path | None, atoms: Atoms) -> Evaluation:
    """Evaluate `atoms` as the MD engine will."""
    from mlip_autopipec.engines.pacemaker.evaluator import PyaceEvaluator
    from mlip_autopipec.structures.neighbours import neighbourhood

    evaluator = PyaceEvaluator(potential, active_set)
    frame = neighbourhood(atoms, evaluator.cutoff, evaluator.elements)
    return evaluator.evaluate(frame, gamma=active_set is not None)


def nobody(row: DatasetRow) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return the mask (N,) of no atom."""
    return np.zeros(len(row.atoms), dtype=bool)


def _samples(rows: Sequence[DatasetRow], trained: Trained, settings: TrainingSettings) -> list[Sample]:
    """Return the first, the newest and some rows between them, for the gate."""
    picked = sorted({int(i) for i in np.linspace(0, len(rows) - 1, _SAMPLES)})
    samples = []
    for row in (rows[i] for i in picked):
        entered = row.learned if settings.force_weight > 0 else nobody(row)
        samples.append(_sample(row, trained.predictions[row.task_id], entered))
    return samples


def _sample(row: DatasetRow, said: Prediction, entered: np.ndarray[Any, np.dtype[np.bool_]]) -> Sample:
    return Sample(row.task_id, row.atoms, said.energy, said.forces, entered)


def elements_of(frames: Mapping[str, Sequence[Atoms]]) -> tuple[str, ...]:
    """Return the sorted elements of all structures of several files."""
    return tuple(sorted({s for group in frames.values() for atoms in group for s in atoms.get_chemical_symbols()}))
