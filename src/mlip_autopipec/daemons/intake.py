"""How labels come into the dataset: from the start structures and from `results/`. Nothing is dropped silently."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.stages.calibrate import AUDIT
from mlip_autopipec.stages.curate import row_of_frame, row_of_result
from mlip_autopipec.stages.explore import has_label
from mlip_autopipec.store.dataset import Dataset, DatasetRow
from mlip_autopipec.store.refusals import add_refusals, read_refusals, remove_refusals
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.resultsview import ResultsView
from mlip_autopipec.store.rundir import RunDirectory

logger = logging.getLogger(__name__)

_START_KEY = "start.dataset:"
# How the reason begins when a label was refused because no fit with it succeeded.
NO_FIT = "no fit with this label: "


class Intake:
    """Knows which labels have a row and which were refused.

    Parameters
    ----------
    labeller
        Label settings of the run, as they stand in task files.
    force_limit
        eV/A.
    """

    def __init__(self, run: RunDirectory, labeller: Mapping[str, Any], *, force_limit: float) -> None:
        self.run = run
        self.dataset = Dataset(run.dataset)
        self.results = Results(run.results)
        self._view = ResultsView(self.results)
        self.labels: set[str] = set()
        self.audits: set[str] = set()  # of the labels: never trained on
        self.refused: set[str] = set()
        self.editions: dict[str, int] = {}  # of the rows whose label was made again
        self._labeller = dict(labeller)
        self._force_limit = force_limit
        self._frames: Sequence[Atoms] = ()
        self._set_aside: Mapping[str, int] = {}
        self._stamp: tuple[int, int, int] | None = None  # of the dataset, as we last saw or wrote it
        self._mishap = ""

    def load(self) -> None:
        """Read what earlier processes took in. Refused results are judged again: they, or the settings, may differ."""
        if (damage := self.dataset.damage()) is not None:
            kept = self.dataset.set_aside()
            self._mishap = f"{self.dataset.path.name} was damaged ({damage}), kept as {kept.name}"
        self._stamp = self.dataset.stamp()
        self.labels = self.dataset.ingested()
        self.audits = self.dataset.ids_of(AUDIT)
        self.editions = self.dataset.editions()
        known = read_refusals(self.run)
        again = {i for i, reason in known.items() if i.startswith(_START_KEY) or reason.startswith(NO_FIT)}
        remove_refusals(self.run, again)
        self.refused = (set(known) - again) & self.labels

    def rebuilt(self) -> str:
        """Look whether the database is still what it was; if not, make it whole again and say what had happened.

        All rows come from the start structures and `results/`, which are the truth. Empty if nothing had happened.
        """
        stamp = self.dataset.stamp()
        if stamp == self._stamp and not self._mishap:
            return ""
        mishap, self._mishap = self._mishap, ""
        if stamp is None and self.labels:
            mishap = f"{self.dataset.path.name} was gone"
        # Where somebody else only wrote or replaced a sound file, what is missing in it comes back.
        self.load()
        mishap, self._mishap = self._mishap or mishap, ""
        self.take_frames(self._frames)
        self.take_results()
        return mishap

    @property
    def trainable(self) -> set[str]:
        """The labels that may enter a fit: neither audits nor refused."""
        return self.labels - self.audits - self.refused

    def lost(self, contained: Collection[str]) -> set[str]:
        """Return which of `contained` have neither row nor reason: their label is nowhere any more.

        A label that a person had set aside (requeued) is not lost: the next one is under way.
        """
        return set(contained) - self.labels - self.refused - set(self._set_aside)

    def take_frames(self, frames: Sequence[Atoms]) -> None:
        """Give every start structure that came with energy and forces a row (idempotent)."""
        self._frames = frames
        rows: list[DatasetRow] = []
        for number, atoms in enumerate(frames):
            if has_label(atoms):
                try:
                    rows.append(row_of_frame(atoms, number, self._labeller, force_limit=self._force_limit))
                except DataError as error:
                    self.refuse(f"{_START_KEY}{number}", str(error))
        self._ingest(rows)

    def take_results(self) -> bool:
        """Give every new result a row, or a reason why not; True if there was one."""
        # Counted before any result is read: a result that is there now is newer than all that were set aside.
        self._set_aside = set_aside = self.results.editions()
        there = self._view.ids()
        self._forgive(there)
        new = sorted(there - self.labels - self.refused)
        rows: list[DatasetRow] = []
        for task_id in new:
            try:
                record = self.results.read(task_id)
                row = row_of_result(record, self._labeller, force_limit=self._force_limit)
                rows.append(replace(row, edition=set_aside.get(task_id, 0)))
            except FileNotFoundError:  # requeued by hand in this moment
                continue
            except DataError as error:
                self.refuse(task_id, str(error))
        self._ingest(rows)
        return self._take_relabelled(there, set_aside) or bool(new)

    def _take_relabelled(self, there: set[str], set_aside: Mapping[str, int]) -> bool:
        """Replace the rows of labels that a person had made again; True if there was one."""
        newer = {i: n for i, n in set_aside.items() if i in self.labels & there and n > self.editions.get(i, 0)}
        for task_id, edition in newer.items():
            try:
                record = self.results.read(task_id)
                row = row_of_result(record, self._labeller, force_limit=self._force_limit)
                self.dataset.replace(replace(row, edition=edition))
            except FileNotFoundError:  # set aside once more in this moment
                continue
            except DataError as error:
                self.refuse(task_id, str(error))
            else:
                self._pardon(task_id)
            self.editions[task_id] = edition
        if newer:
            self._stamp = self.dataset.stamp()
        return bool(newer)

    def _pardon(self, task_id: str) -> None:
        """The new label of a refused task is good."""
        if task_id in self.refused:
            remove_refusals(self.run, {task_id})
            self.refused.discard(task_id)

    def refuse(self, task_id: str, reason: str) -> None:
        """Leave a label out from now on, and say why."""
        if task_id not in self.refused:
            logger.warning("refused: %s", reason)
            add_refusals(self.run, {task_id: reason})
            self.refused.add(task_id)

    def _ingest(self, rows: Sequence[DatasetRow]) -> None:
        if rows:
            taken = self.dataset.ingest(rows)
            self._stamp = self.dataset.stamp()
            self.labels.update(taken)
            self.audits.update(row.task_id for row in rows if row.config_type == AUDIT and row.task_id in taken)
            self.editions |= {row.task_id: row.edition for row in rows if row.edition and row.task_id in taken}
            remove_refusals(self.run, taken)

    def _forgive(self, there: set[str]) -> None:
        """Forget refusals whose result was set aside (requeued by hand): the next label is judged anew."""
        gone = {task_id for task_id in self.refused - there if not task_id.startswith(_START_KEY)} - self.labels
        if gone:
            remove_refusals(self.run, gone)
            self.refused -= gone
