"""The gate of a new version beside the current one: what it is asked, and `gate.json`, which keeps the answers."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms

from mlip_autopipec.ace.growing import GrownSet
from mlip_autopipec.ace.maxvol import grade
from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.files import write_json
from mlip_autopipec.core.interfaces import Design, Evaluation, Evaluator, FloatArray
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.squeezing import (
    ShortestPairs,
    reachable_energies,
    squeezed_gammas,
    squeezed_pushes,
)
from mlip_autopipec.stages.gate import (
    HELD_OUT,
    Check,
    Miss,
    compare_held_out,
    equation_of_state,
    held_back_by,
    rank_correlation,
    repulsive_core,
    squeezed_pairs,
)
from mlip_autopipec.stages.publish import Evaluate
from mlip_autopipec.stages.train import NO_BASELINE, Baseline, Prediction, predict, relative_energy
from mlip_autopipec.store.dataset import DatasetRow
from mlip_autopipec.store.gatereport import read_checks, report_file
from mlip_autopipec.store.registry import Registry

# Versions whose coefficients are remembered: the current one is mostly the last.
_KEPT: Final = 4

Graded = tuple[DatasetRow, FloatArray, FloatArray]
"""A label with (N,) gamma and (N, 3) forces, eV/A, that a version says."""


@dataclass(frozen=True)
class NewVersion:
    """A fit that is to be judged.

    Attributes
    ----------
    folder : work folder with the potential's files
    rows : what it was trained on
    coefficients : (K,) eV
    sets : active set per element
    say : what it says of a label, if its coefficients are not those of a linear fit
    baseline : what is added to the functions
    """

    folder: Path
    rows: Sequence[DatasetRow]
    coefficients: FloatArray
    sets: Mapping[str, GrownSet]
    say: Callable[[DatasetRow], Prediction] | None = None
    baseline: Baseline = NO_BASELINE

    def predict(self, row: DatasetRow, design: Design) -> Prediction:
        """Return what it says of a label, by its coefficients."""
        return predict(design, self.coefficients).on(self.baseline(row))


class GateJudge:
    """Asks versions what the gate wants to know; remembers what need not be computed again.

    Parameters
    ----------
    evaluate
        As walkers will.
    level
        gamma above which MD halts.
    tolerance
        Relative; by so much the error of a group of held-out labels may grow.
    baseline
        True if the potential has a core that must repel.
    """

    def __init__(
        self, registry: Registry, evaluate: Evaluate, *, level: float, tolerance: float, baseline: bool = False
    ) -> None:
        self._registry = registry
        self._evaluate = evaluate
        self._level = level
        self._tolerance = tolerance
        self._baseline = baseline
        self._made: OrderedDict[str, NewVersion] = OrderedDict()  # by sha256 of the .yaml
        self.shortest = ShortestPairs()

    def judge(
        self,
        new: NewVersion,
        held: Sequence[DatasetRow],
        isolated: Mapping[str, float],
        current: str | None,
        design_of: Callable[[DatasetRow], Design],
    ) -> list[str]:
        """Write `gate.json` into the work folder; return why the version may only be a candidate, nothing if it may be
        current.

        Parameters
        ----------
        held
            Held-out labels.
        current
            The version that walkers use, None before the first.
        """
        if new.say is not None:
            self._made.clear()  # its radial functions may be others: old coefficients must not meet the new rows
        designs = _of_known_elements(held, design_of)
        ours = {task: new.say(row) if new.say else new.predict(row, design) for task, (row, design) in designs.items()}
        checks = [
            self._held_out(designs, ours, isolated, current, refined=new.say is not None),
            _gamma_rank(_graded(designs, ours, new.sets)),
            self._squeezed(new.folder, new.rows),
            *([self._pushed(new.folder, new.rows)] if self._baseline else []),
            self._reference_crystal(new.folder, new.rows, isolated),
        ]
        reasons = held_back_by(checks, self._of_current(current, checks, new.rows, designs, isolated))
        report = {"against": current, "candidate": reasons, "checks": [check.to_dict() for check in checks]}
        write_json(report_file(new.folder), report)
        if new.say is None:
            self._remember(new)
        return reasons

    def forget(self) -> None:
        """Forget the coefficients of earlier versions: the functions are others from now on."""
        self._made.clear()

    def _remember(self, new: NewVersion) -> None:
        name = hashlib.sha256((new.folder / "potential.yaml").read_bytes()).hexdigest()
        self._made[name] = replace(new, rows=())
        while len(self._made) > _KEPT:
            self._made.popitem(last=False)

    def _held_out(
        self,
        designs: Mapping[str, tuple[DatasetRow, Design]],
        ours: Mapping[str, Prediction],
        isolated: Mapping[str, float],
        current: str | None,
        *,
        refined: bool,
    ) -> Check:
        rows = {task: row for task, (row, _) in designs.items()}
        known = set() if current is None else set(self._registry.labels(current))  # another rule of sides, then
        unseen = {task: found for task, found in designs.items() if task not in known}
        theirs = {} if current is None else self._said_by(current, unseen)
        new = {task: _miss(rows[task], said, isolated) for task, said in ours.items()}
        old = {task: _miss(rows[task], said, isolated) for task, said in theirs.items()}
        if current is None:
            return Check("held_out", None, "no version to compare with", compare_held_out(new, new, 0.0).numbers)
        check = compare_held_out(new, old, self._tolerance)
        if check.passed is False and not refined and self._is_of_pacemaker(current):
            told = f"{check.told}; that holds nothing back: pacemaker refined the current version, not yet this one"
            return replace(check, passed=None, told=told)
        return check

    def _is_of_pacemaker(self, version: str) -> bool:
        try:
            return self._registry.manifest(version).get("trainer") == "pacemaker"
        except AutopipeError:  # damaged: the trainer mends it
            return False

    def _said_by(self, version: str, designs: Mapping[str, tuple[DatasetRow, Design]]) -> dict[str, Prediction]:
        """Return what the current version says: by its coefficients if this process made it, else by its file."""
        try:
            made = self._made_here(version, designs)
        except AutopipeError:  # damaged: the trainer mends it
            return {}
        if made is not None:
            return {task: made.predict(row, design) for task, (row, design) in designs.items()}
        said = {}
        for task, (row, _) in designs.items():
            try:
                found = self._evaluate(self._registry.path(version) / "potential.yaml", None, row.atoms)
            except AutopipeError:  # an element that it does not know
                continue
            said[task] = Prediction(found.energy, found.forces)
        return said

    def _made_here(self, version: str, designs: Mapping[str, tuple[DatasetRow, Design]]) -> NewVersion | None:
        """Return a version that this process made, of the same functions as `designs`; None if it did not."""
        made = self._made.get(str(self._registry.manifest(version).get("files", {}).get("potential.yaml")))
        same = made is not None and all(len(d.energy) == len(made.coefficients) for _, d in designs.values())
        return made if same else None

    def _of_current(
        self,
        current: str | None,
        checks: Sequence[Check],
        rows: Sequence[DatasetRow],
        designs: Mapping[str, tuple[DatasetRow, Design]],
        isolated: Mapping[str, float],
    ) -> dict[str, bool | None] | None:
        """Ask the current version what the new one failed, on the same labels: its own gate knew fewer of them."""
        if current is None:
            return None
        folder = self._registry.path(current)
        questions: dict[str, Callable[[], Check]] = {
            "gamma_rank": lambda: _gamma_rank(self._graded_by(current, designs)),
            "squeezed_pairs": lambda: self._squeezed(folder, rows),
            "repulsive_core": lambda: self._pushed(folder, rows),
            "equation_of_state": lambda: self._reference_crystal(folder, rows, isolated),
        }
        # One that the user brought was made of these very labels, held out here or not.
        answers: dict[str, bool | None] = {HELD_OUT: bool(read_checks(self._registry, current))}
        for check in checks:
            if check.passed is False and check.name in questions:
                try:
                    answers[check.name] = questions[check.name]().passed
                except AutopipeError:  # an element that it does not know
                    answers[check.name] = None
        return answers

    def _graded_by(self, version: str, designs: Mapping[str, tuple[DatasetRow, Design]]) -> Iterator[Graded]:
        """Grade every held-out label as MD with a version would: as this process remembers it, else by its files."""
        made = self._made_here(version, designs)
        if made is not None:
            yield from _graded(designs, self._said_by(version, designs), made.sets)
            return
        evaluate = self._with_gamma(self._registry.path(version))
        for row, _ in designs.values():
            found = evaluate(row.atoms)
            yield row, found.gamma, found.forces

    def _squeezed(self, folder: Path, rows: Sequence[DatasetRow]) -> Check:
        squeezed = squeezed_gammas(extremes(rows), self.shortest.of(rows), self._with_gamma(folder))
        return squeezed_pairs(list(squeezed), self._level)

    def _pushed(self, folder: Path, rows: Sequence[DatasetRow]) -> Check:
        pushed = squeezed_pushes(extremes(rows), self.shortest.of(rows), self._with_gamma(folder))
        return repulsive_core(list(pushed))

    def repels(self, evaluator: Evaluator, rows: Sequence[DatasetRow]) -> bool:
        """Ask a fit that has no version yet what `repulsive_core` will ask; True also where there is nothing to ask."""

        def evaluate(atoms: Atoms) -> Evaluation:
            return evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements))

        return (
            repulsive_core(list(squeezed_pushes(extremes(rows), self.shortest.of(rows), evaluate))).passed is not False
        )

    def _reference_crystal(self, folder: Path, rows: Sequence[DatasetRow], isolated: Mapping[str, float]) -> Check:
        whole = [row for row in rows if row.whole and row.atoms.cell.rank == 3]
        if not whole:
            return Check("equation_of_state", None, "no whole cell was trained")
        calmest = min(whole, key=lambda row: (relative_energy(row, isolated) / len(row.atoms), row.task_id))
        return equation_of_state(*reachable_energies(calmest.atoms, self._with_gamma(folder), self._level))

    def _with_gamma(self, folder: Path) -> Callable[[Any], Any]:
        return lambda atoms: self._evaluate(folder / "potential.yaml", folder / "potential.asi", atoms)


def _of_known_elements(
    held: Sequence[DatasetRow], design_of: Callable[[DatasetRow], Design]
) -> dict[str, tuple[DatasetRow, Design]]:
    """Return task id -> row with its design; a label that the functions cannot describe judges nobody."""
    found = {}
    for row in held:
        try:
            found[row.task_id] = (row, design_of(row))
        except AutopipeError:
            continue
    return found


def _miss(row: DatasetRow, said: Prediction, isolated: Mapping[str, float]) -> Miss:
    energy = (said.energy - relative_energy(row, isolated)) / len(row.atoms) * 1e3 if row.whole else None
    return Miss(row.config_type, (said.forces - row.forces)[row.learned].ravel(), energy)


def _graded(
    designs: Mapping[str, tuple[DatasetRow, Design]], said: Mapping[str, Prediction], sets: Mapping[str, GrownSet]
) -> Iterator[Graded]:
    """Grade every held-out label by the active sets of a version that is just being made."""
    for task, (row, design) in designs.items():
        gamma = np.zeros(len(row.atoms))
        for element, (members, values) in design.projections.items():
            gamma[members] = grade(values, sets[element].active.inverse)
        yield row, gamma, said[task].forces


def _gamma_rank(said: Iterable[Graded]) -> Check:
    """Compare gamma and error of the learned atom with the largest gamma of each held-out label."""
    gammas, errors = [], []
    for row, gamma, forces in said:
        learned = np.flatnonzero(row.learned)
        atom = int(learned[np.argmax(gamma[learned])])
        gammas.append(float(gamma[atom]))
        errors.append(float(np.linalg.norm(forces[atom] - row.forces[atom])))
    return rank_correlation(gammas, errors)


def extremes(rows: Sequence[DatasetRow]) -> list[DatasetRow]:
    """Return the calmest and the wildest structure, by the forces of learned atoms."""
    by_size = sorted(rows, key=lambda row: (float(np.mean(row.forces[row.learned] ** 2)), row.task_id))
    return [by_size[0], by_size[-1]] if len(by_size) > 1 else by_size
