"""Keeps `calibration.json` up to date: the trainer's part of the audits.

A few labels at a time, between the trainer's other work. Audits are compared with the current version, again for each
new one; other labels with the version that asked for them, again when the basis functions change.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import OrderedDict
from dataclasses import asdict
from pathlib import Path

from ase import Atoms

from mlip_autopipec.core.errors import AutopipeError, DataError
from mlip_autopipec.core.interfaces import Evaluator, LinearBasis
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.daemons.forceerrors import basis_of, pair_of, regraded
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.stages.calibrate import Pair, audit_bound, halt_level, is_converged
from mlip_autopipec.stages.train import TrainingSettings
from mlip_autopipec.stages.watch import OtfSettings
from mlip_autopipec.store.calibration import Calibration, read_calibration, write_calibration
from mlip_autopipec.store.registry import Registry

logger = logging.getLogger(__name__)

_WORK_S = 0.1
_KEPT_EVALUATORS = 2


class Calibrator:
    """Compares labels with versions.

    Parameters
    ----------
    intake, registry
        The trainer's.
    otf
        Gives target and thresholds.
    training
        Says which rows enter an active set.
    """

    def __init__(self, path: Path, intake: Intake, registry: Registry, otf: OtfSettings, training: TrainingSettings):
        self.path = path
        self._intake = intake
        self._registry = registry
        self._otf = otf
        self._training = training
        self._pairs: dict[str, Pair] = {}
        self._hopeless: dict[str, str] = {}  # task id -> version with which there is no pair
        self._versions: dict[str, dict[str, object]] = {}
        self._evaluators: OrderedDict[str, Evaluator] = OrderedDict()
        self._bases: dict[str, str] = {}
        self._editions: dict[str, int] = {}
        self._changes = 0
        self._written: object = None
        self._warm = False

    def load(self) -> None:
        """Read what an earlier process found; a damaged file is computed again."""
        try:
            found = read_calibration(self.path)
            if found is not None:
                self._pairs = {pair["task_id"]: Pair(**pair) for pair in found.pairs}
                self._versions = dict(found.versions)
        except (DataError, TypeError) as error:
            logger.warning("%s: computed again", error)

    def step(self) -> bool:
        """Do some work; True if there was some."""
        version = self._current()
        if version is None:
            return False
        if not self._warm:
            # The first evaluation takes a second, for imports and tables: better now than when walkers wait.
            self._warm = True
            with contextlib.suppress(AutopipeError):
                evaluator = self._evaluator(version)
                atom = Atoms(evaluator.elements[0])
                evaluator.evaluate(neighbourhood(atom, evaluator.cutoff, evaluator.elements), gamma=True)
            return True
        until, worked = time.monotonic() + _WORK_S, False
        for task_id in self._missing(version):
            self._compare(task_id, version)
            worked = True
            if time.monotonic() > until:
                return True
        return self._write(version) or worked

    def _current(self) -> str | None:
        try:
            current = self._registry.current()
            return current.version if current is not None and self._intake.labels else None
        except AutopipeError:  # the trainer repairs it, or asks a person
            return None

    def _missing(self, version: str) -> list[str]:
        """Return the labels whose pair is not there, or not up to date."""
        basis = self._basis_name(version)
        for gone in set(self._pairs) - self._intake.labels:
            del self._pairs[gone]
            self._changes += 1
        missing = []
        for task_id in sorted(self._intake.labels - self._intake.refused):
            pair, edition = self._pairs.get(task_id), self._intake.editions.get(task_id, 0)
            fresh = pair is not None and pair.basis == basis and (not pair.audit or pair.version == version)
            if self._editions.setdefault(task_id, edition) != edition:  # it was labelled again
                self._editions[task_id], fresh = edition, False
                self._hopeless.pop(task_id, None)
                self._pairs.pop(task_id, None)
            if not fresh and self._hopeless.get(task_id) != version:
                missing.append(task_id)
        return missing

    def _compare(self, task_id: str, version: str) -> None:
        """Make the pair of one label, or note that there is none under the current version."""
        self._hopeless[task_id] = version
        row = self._intake.dataset.row(task_id)
        if row is None:
            return
        audit = task_id in self._intake.audits
        asked = version if audit else str(row.origin.get("version", ""))
        if not audit and (asked not in self._registry.versions() or task_id in self._registry.labels(asked)):
            return  # it came with the start, or its version is gone: nothing that had not seen it
        basis = self._basis_name(version)
        try:
            if self._basis_name(asked) == basis:
                pair = pair_of(row, self._evaluator(asked), version=asked, basis=basis)
            else:
                contained = (self._intake.dataset.row(i) for i in self._registry.labels(asked))
                pair = regraded(
                    row, self._evaluator(asked), [r for r in contained if r is not None], self._basis(version),
                    self._training, version=asked, name=basis,
                )  # fmt: skip
        except AutopipeError as error:
            logger.warning("label %s says nothing of %s: %s", task_id, asked, error)
            return
        self._pairs[task_id] = pair
        self._changes += 1
        del self._hopeless[task_id]

    def _write(self, version: str) -> bool:
        """Write the file if anything changed; True if so."""
        audits = {i for i, pair in self._pairs.items() if pair.audit}
        stamp = (version, self._changes)
        if stamp == self._written or not self._pairs:
            return False
        pairs = list(self._pairs.values())
        target, given = self._otf.target_force_error, self._otf.uncertainty_threshold
        found = None if target is None else halt_level(pairs, target, ceiling=given)
        level = given if found is None or found.value is None else found.value
        bound = audit_bound(pairs, level)
        self._versions[version] = {"audits": len(audits), "level": level, "bound": bound}
        calibration = Calibration(
            version=version,
            target=target,
            level=found.value if found is not None else None,
            reason=found.reason if found is not None else "otf.uncertainty_threshold",
            bound=bound,
            converged=target is not None and is_converged(pairs, level, target),
            versions=self._versions,
            pairs=[asdict(pair) for pair in pairs],
        )
        write_calibration(self.path, calibration)
        self._written = stamp
        return True

    def _evaluator(self, version: str) -> Evaluator:
        if version not in self._evaluators:
            self._evaluators[version] = make_evaluator(self._registry.path(version))
            while len(self._evaluators) > _KEPT_EVALUATORS:
                self._evaluators.popitem(last=False)
        self._evaluators.move_to_end(version)
        return self._evaluators[version]

    def _basis(self, version: str) -> LinearBasis:
        """Return the functions of a version as a basis."""
        from mlip_autopipec.ace.formats.yaml_reading import read_yaml

        file = self._registry.path(version) / "potential.yaml"
        return make_basis(self._training, read_yaml(file).elements, file, baseline=True)

    def _basis_name(self, version: str) -> str:
        if version not in self._bases:
            try:
                self._bases[version] = basis_of(self._registry.manifest(version))
            except AutopipeError:
                return ""
        return self._bases[version]
