"""What the trainer's child does: fit, active set, gate. It keeps the design rows of the structures it has seen.

The child reads the dataset and writes one work folder; publishing that is the trainer's own.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlip_autopipec.ace.baseline import BEGINS
from mlip_autopipec.ace.growing import GrownSet
from mlip_autopipec.core.clock import iso_time
from mlip_autopipec.core.errors import AutopipeError, DataError, EngineError
from mlip_autopipec.core.files import write_text
from mlip_autopipec.core.interfaces import LinearBasis
from mlip_autopipec.core.yamlfile import dump_mapping, read_mapping
from mlip_autopipec.daemons.adoption import adopt, known_elements
from mlip_autopipec.daemons.bases import basis_of, make_basis, warm_up
from mlip_autopipec.daemons.contradictions import contradicting, not_finite
from mlip_autopipec.daemons.designs import DesignCache, usable
from mlip_autopipec.daemons.evaluators import load_evaluator
from mlip_autopipec.daemons.fitjob import FitAnswer, FitJob, FitRequest
from mlip_autopipec.daemons.gate import evaluation_by, samples
from mlip_autopipec.daemons.gatejudge import GateJudge, NewVersion
from mlip_autopipec.daemons.intake import LEFT_OUT
from mlip_autopipec.daemons.isolated import isolated_energies
from mlip_autopipec.stages.baseline import put_core
from mlip_autopipec.stages.calibrate import AUDIT
from mlip_autopipec.stages.curate import left_out
from mlip_autopipec.stages.masking import Limits, Masking
from mlip_autopipec.stages.publish import Evaluate, check, read_grades, write_grades
from mlip_autopipec.stages.train import (
    NO_BASELINE,
    Baseline,
    Functions,
    Prediction,
    Trained,
    active_rows,
    chosen_functions,
    hashes,
    kept_functions,
    train,
    wanted_overlay,
)
from mlip_autopipec.store.dataset import Dataset, DatasetRow
from mlip_autopipec.store.keptrows import KeptRows
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory

# Where pacemaker works, within attempts/.
WORK = "pacemaker"
# Of all labels; where more contradict the others, it is not clear who is wrong.
_MOST_ODD = 0.2


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
        self._rows = KeptRows(Dataset(self.run.dataset))
        self._designs: DesignCache | None = None
        self._baseline = NO_BASELINE
        self._chosen: str | None = None  # the functions of the design rows, where labels chose them
        self._masking = Masking(job.training.train_mask, job.training.force_limit)
        self._judge = GateJudge(
            self.registry,
            evaluation_by(job.engine),
            level=job.halt_level,
            tolerance=job.training.gate_tolerance,
            baseline=job.training.baseline != "none",
        )
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
        wanted, judging = set(request.task_ids), set(request.held)
        everything = self._rows.rows()
        rows = [row for row in everything if row.task_id in wanted]
        held = [row for row in everything if row.task_id in judging]
        if asked := sorted(row.task_id for row in rows if row.config_type == AUDIT):
            raise DataError(f"label {asked[0]}: an audit, which no fit may see", "this is a bug: report it")
        found = {*self.job.elements, *(symbol for row in rows for symbol in row.composition)}
        elements = sorted(found)
        job = self.job
        priced = sorted(found.union(known_elements(request.given[0]) if request.given else ()))
        isolated = isolated_energies(self.run, priced, job.training.reference_energies, job.labeller, job.node)
        with self.registry.work_folder() as folder:
            unusable: dict[str, str] = {}
            if request.given is not None:
                facts = adopt(rows, isolated, *request.given, folder, job.engine)
            else:
                rows, unusable = self._admitted(rows, isolated)
                functions = self._functions_for(rows, elements, request.parent)
                designs = self._designs_of(elements) if functions is None else self._designs_by(functions)
                rows, without = usable(rows, designs)
                unusable |= without
                baseline = self._baseline_of(rows, designs.basis)
                trained, rows, limits, odd = self._sound_fit(rows, isolated, designs, folder, request.parent, baseline)
                unusable |= odd
                core: dict[str, Any] = {}
                if functions is not None:
                    core = {"functions": functions.told}
                    _tell(folder, functions)
                if job.training.baseline != "none":
                    core["baseline"] = self._held_apart(rows, isolated, baseline, folder)
                predictions, say = trained.predictions, None
                trainer, fault = request.trainer or job.training.trainer, ""
                if trainer == "pacemaker":
                    try:
                        predictions, designs = self._refined(rows, isolated, designs, folder, baseline, predictions)
                        say = _said_by(folder / "potential.yaml", evaluation_by(job.engine))
                    except EngineError as error:
                        if request.trainer:  # the last fit is for this alone
                            raise
                        trainer, fault = "linear", str(error)
                facts, sets = self._finished(rows, limits, designs, folder, request.parent)
                chosen = samples(rows, predictions, forces_entered=job.training.teaches_forces)
                check(folder, chosen, isolated, evaluation_by(job.engine))
                new = NewVersion(folder, rows, trained.fit.coefficients, sets, say, baseline)
                facts |= {"trainer": trainer, **core, **({"not_refined": fault} if fault else {})}
                if reasons := self._judge.judge(new, held, isolated, request.current, designs):
                    facts["candidate"] = reasons
        facts |= {"created": iso_time(time.time()), "seconds": round(time.monotonic() - begin, 3)}
        return FitAnswer(folder, facts, unusable)

    def _sound_fit(
        self,
        rows: list[DatasetRow],
        isolated: dict[str, float],
        designs: DesignCache,
        folder: Path,
        parent: str | None,
        baseline: Baseline,
    ) -> tuple[Trained, list[DatasetRow], Limits | None, dict[str, str]]:
        """Fit, and again without the labels that contradict all others.

        Returns the fit, the rows with its masks, what the masks follow from, and why other labels were left out.

        Raises
        ------
        DataError
            So many contradict each other that nobody can say which are right.
        """
        settings = self.job.training
        before = self._known_to(parent)
        new = {row.task_id for row in rows if before.get(row.task_id) != row.edition}
        judged = new if settings.refuse_contradictions else set()
        odd: dict[str, str] = {}
        while True:
            masked, limits = self._masking.masked(rows)
            trained = train(
                masked, designs.basis, settings, isolated, folder,
                design_of=designs, growing=designs.growing, baseline=baseline,
            )  # fmt: skip
            found = contradicting(masked, judged - set(odd), trained, settings, isolated, designs)
            if not found:
                return trained, masked, limits, {task: f"{LEFT_OUT}{reason}" for task, reason in odd.items()}
            odd |= found
            if len(odd) > max(_MOST_ODD * (len(rows) + len(odd)), 1):
                raise DataError(
                    f"{len(odd)} labels contradict the others, e.g. {next(iter(odd.values()))}",
                    "are all labels of one unit and one method? training.refuse_contradictions: false takes them all",
                )
            rows = [row for row in rows if row.task_id not in odd]

    def _baseline_of(self, rows: Sequence[DatasetRow], basis: LinearBasis) -> Baseline:
        """Return what MD will add to the fit of these rows; the same one as last time if it is the same."""
        overlay = wanted_overlay(self.job.training, basis.elements, self._judge.shortest.of(rows), basis.cutoff)
        if (self._baseline.overlay, self._baseline.elements) != (overlay, basis.elements):
            self._baseline = Baseline(overlay, basis.elements)
        return self._baseline

    def _held_apart(
        self, rows: Sequence[DatasetRow], isolated: dict[str, float], baseline: Baseline, folder: Path
    ) -> dict[str, Any]:
        """Put the baseline under the fit: ACE off as far inwards as pairs repel all the way, else at its nearest."""
        all_pairs, told = self._judge.shortest.of(rows, masked=True), dict[str, Any]()
        for begin in BEGINS:
            told = put_core(folder, all_pairs, isolated, baseline.overlay, begin)
            if self._judge.repels(load_evaluator(folder / "potential.yaml"), rows):
                break
        return told

    def _refined(
        self,
        rows: Sequence[DatasetRow],
        isolated: dict[str, float],
        designs: DesignCache,
        folder: Path,
        baseline: Baseline,
        said: dict[str, Prediction],
    ) -> tuple[dict[str, Prediction], DesignCache]:
        """Let pacemaker refine the linear fit in `folder`; return what it says of the rows, and their design rows."""
        from mlip_autopipec.daemons.refining import refined

        work = self.run.attempts / WORK
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        found = refined(rows, self.job.training, isolated, folder, work, said, baseline)
        return found.predictions, designs if found.basis is None else DesignCache(found.basis)

    def _known_to(self, version: str | None) -> dict[str, int]:
        """Return task id -> edition of the labels that a version contains: they were judged when they came."""
        try:
            manifest = self.registry.manifest(version) if version is not None else {}
        except AutopipeError:  # damaged or gone: the trainer says so
            return {}
        return {task: int(manifest.get("editions", {}).get(task, 0)) for task in manifest.get("task_ids", ())}

    def _finished(
        self,
        rows: Sequence[DatasetRow],
        limits: Limits | None,
        designs: DesignCache,
        folder: Path,
        parent: str | None,
    ) -> tuple[dict[str, Any], dict[str, GrownSet]]:
        """Write the active sets; return the facts of the manifest, and the sets."""
        settings, basis = self.job.training, designs.basis
        facts = {
            "task_ids": [row.task_id for row in rows],
            "editions": {row.task_id: row.edition for row in rows if row.edition},
            # npt walkers wait until there is one.
            "stress_labels": sum(row.stress is not None and row.whole for row in rows),
            **dict(hashes(settings, basis.elements)),
            **_origin_of_functions(designs, self._designs, self.job.potential, folder, self._chosen),
            "train_mask": {"kind": settings.train_mask, "limits": limits and limits.to_dict()},
        }
        selected = self._select(rows, designs, facts, parent)
        write_grades(folder, selected)
        return facts | {
            "active_set": {element: len(found.active.rows) for element, found in selected.items()}
        }, selected

    def _select(
        self, rows: Sequence[DatasetRow], designs: DesignCache, facts: Mapping[str, Any], parent: str | None
    ) -> dict[str, GrownSet]:
        """Return the active sets: on from those of `parent`, if it is of the same functions and of the first labels.

        They depend on files only, so that a trainer that was killed in between goes on with the same ones.
        """
        before = self._parent_sets(facts, parent)
        blocks = active_rows(rows, designs.basis, self.job.training, designs)
        labels = [(row.task_id, row.edition) for row in rows]
        return {element: designs.growing_set(element).of(before.get(element), blocks[element], labels)
                for element in blocks}  # fmt: skip

    def _parent_sets(self, facts: Mapping[str, Any], parent: str | None) -> dict[str, GrownSet]:
        if parent is None:
            return {}
        try:
            manifest = self.registry.manifest(parent)
        except AutopipeError:  # damaged or gone: the trainer says so
            return {}
        seen = list(manifest.get("task_ids", ()))
        keys = ("config_hash", "basis_hash", "basis_of", "train_mask")
        same = all(manifest.get(key) == facts.get(key) for key in keys)
        editions = {task: edition for task, edition in facts["editions"].items() if task in set(seen)}
        if not same or manifest.get("editions") != editions or seen != facts["task_ids"][: len(seen)]:
            return {}
        return read_grades(self.registry.path(parent))

    def _admitted(
        self, rows: Sequence[DatasetRow], isolated: dict[str, float]
    ) -> tuple[list[DatasetRow], dict[str, str]]:
        """Leave out what the settings of this run want left out.

        Raises
        ------
        DataError
            Nothing is left.
        """
        window, use = self.job.labelling.energy_window, self.job.training.use_changed_smearing
        told = {row.task_id: left_out(row, isolated, window, use_changed_smearing=use) for row in rows}
        told |= {row.task_id: reason for row in rows if (reason := not_finite(row))}
        reasons = {task_id: f"{LEFT_OUT}{reason}" for task_id, reason in told.items() if reason}
        if rows and len(reasons) == len(rows):
            raise DataError(f"all {len(rows)} labels are left out, e.g. {next(iter(reasons.values()))}")
        return [row for row in rows if row.task_id not in reasons], reasons

    def _designs_of(self, elements: Sequence[str]) -> DesignCache:
        if self._designs is None or self._designs.basis.elements != tuple(elements):
            self._designs = DesignCache(make_basis(self.job.training, elements, self.job.potential))
        return self._designs

    def _functions_for(
        self, rows: Sequence[DatasetRow], elements: Sequence[str], parent: str | None
    ) -> Functions | None:
        """Return the functions that the labels choose, on from those of `parent`; None if they have no say."""
        if not self.job.training.labels_decide or self.job.potential is not None:
            return None
        try:
            kept = parent and kept_functions(self.registry.path(parent), self.registry.manifest(parent))
        except AutopipeError:  # damaged or gone: the trainer says so
            kept = None
        return chosen_functions(self.job.training, rows, elements, kept or None)

    def _designs_by(self, functions: Functions) -> DesignCache:
        """Return the design rows of chosen functions; other ones than last time begin from nothing."""
        if self._designs is None or self._chosen != functions.text:
            self._designs = DesignCache(basis_of(self.job.training, functions.configuration))
            self._judge.forget()
            self._chosen = functions.text
        return self._designs


def _origin_of_functions(
    designs: DesignCache, own: DesignCache | None, given: Path | None, folder: Path, chosen: str | None
) -> dict[str, str]:
    """Return `basis_of`, where the functions are not those of the settings: active sets of others begin anew."""
    if designs is not own:
        return {"basis_of": hashlib.sha256((folder / "potential.yaml").read_bytes()).hexdigest()}
    if chosen is not None:
        return {"basis_of": hashlib.sha256(chosen.encode()).hexdigest()}
    return {"basis_of": str(given)} if given is not None else {}


def _tell(folder: Path, functions: Functions) -> None:
    """Keep chosen functions in the work folder, and their reason in `train_config.yaml`."""
    functions.write(folder)
    described = read_mapping(folder / "train_config.yaml") | {"basis": functions.told}
    write_text(folder / "train_config.yaml", dump_mapping(described))


def _said_by(potential: Path, evaluate: Evaluate) -> Callable[[DatasetRow], Prediction]:
    def say(row: DatasetRow) -> Prediction:
        found = evaluate(potential, None, row.atoms)
        return Prediction(found.energy, found.forces)

    return say
