"""How labels come into the dataset: from the start structures and from `results/`. Nothing is dropped silently."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.daemons.moments import MomentWatch
from mlip_autopipec.stages.calibrate import AUDIT
from mlip_autopipec.stages.curate import row_of_frame, row_of_result
from mlip_autopipec.stages.explore import has_label
from mlip_autopipec.store.dataset import Dataset, DatasetRow
from mlip_autopipec.store.refusals import DROPPED, add_refusals, read_refusals, remove_refusals
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.resultsview import ResultsView
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.sides import side_of

logger = logging.getLogger(__name__)

_START_KEY = "start.dataset:"
# How the reason begins when a label was refused because no fit with it succeeded.
NO_FIT = "no fit with this label: "
# Reading and writing so many takes about a second; whoever calls has to beat in between.
_BATCH: Final = 500
# … and when a setting of the run left it out, which may change at the next start.
LEFT_OUT = "left out: "


class Intake:
    """Knows which labels have a row and which were refused.

    Parameters
    ----------
    labeller
        Label settings of the run, as they stand in task files.
    force_limit
        eV/A.
    moment_jump
        Bohr magnetons per atom of an element between labels of one walker, from which the later one is flagged.

    Attributes
    ----------
    labels : ids that have a row
    refused : ids that take no part in fits
    editions : of the rows whose label was made again
    flags : id -> what is odd about a label that is kept
    """

    def __init__(
        self, run: RunDirectory, labeller: Mapping[str, Any], *, force_limit: float, moment_jump: float = 0.5
    ) -> None:
        self.run = run
        self.dataset = Dataset(run.dataset)
        self.results = Results(run.results)
        self._view = ResultsView(self.results)
        self.labels: set[str] = set()
        self.audits: set[str] = set()  # of the labels: never trained on
        self.validation: set[str] = set()  # the same, audits included
        self.margin: set[str] = set()  # neither trained on nor judged by
        self.refused: set[str] = set()
        self.editions: dict[str, int] = {}
        self.flags: dict[str, dict[str, str]] = {}
        self._moments = MomentWatch(moment_jump)
        self._labeller = dict(labeller)
        self._force_limit = force_limit
        self._frames: Sequence[Atoms] = ()
        self._set_aside: Mapping[str, int] = {}
        self._stamp: tuple[int, int, int] | None = None  # of the dataset, as we last saw or wrote it
        self._mishap = ""
        self._rebuilding = ""
        self.rest = 0  # results that nobody has looked at yet

    def load(self) -> None:
        """Read what earlier processes took in. Refused results are judged again: they, or the settings, may differ."""
        if (damage := self.dataset.damage()) is not None:
            kept = self.dataset.set_aside()
            self._mishap = f"{self.dataset.path.name} was damaged ({damage}), kept as {kept.name}"
        self._stamp = self.dataset.stamp()
        self.labels = self.dataset.ingested()
        self.audits = self.dataset.ids_of(AUDIT)
        self.validation = self.audits | self.dataset.ids_of("validation", "side")
        self.margin = self.dataset.ids_of("margin", "side")
        self.editions = self.dataset.editions()
        known = read_refusals(self.run)
        self.flags = self.dataset.flags()
        self._moments.load(self.dataset.magnetic())
        again = {i for i, why in known.items() if i.startswith(_START_KEY) or why.startswith((NO_FIT, LEFT_OUT))}
        remove_refusals(self.run, again)
        self.refused = (set(known) - again) & self.labels
        self.rest = len(self._view.ids() - self.labels - self.refused)

    def rebuilt(self) -> str:
        """Look whether the database is still what it was; if not, make it whole again and say what had happened.

        All rows come from the start structures and `results/`, which are the truth. Empty if nothing had happened, or
        as long as `take_results` has not yet taken in what else there is.
        """
        stamp = self.dataset.stamp()
        if stamp == self._stamp and not self._mishap:
            return self._told_when_whole()
        mishap, self._mishap = self._mishap, ""
        if stamp is None and self.labels:
            mishap = f"{self.dataset.path.name} was gone"
        # Where somebody else only wrote or replaced a sound file, what is missing in it comes back.
        self.load()
        self._rebuilding, self._mishap = self._mishap or mishap or self._rebuilding, ""
        self.take_frames(self._frames)
        self.take_results()
        return self._told_when_whole()

    def _told_when_whole(self) -> str:
        if self.rest:
            return ""
        told, self._rebuilding = self._rebuilding, ""
        return told

    @property
    def trainable(self) -> set[str]:
        """The labels that may enter a fit: neither held out nor refused."""
        return self.labels - self.validation - self.margin - self.refused

    @property
    def judging(self) -> set[str]:
        """The labels that versions are judged by."""
        return self.validation - self.refused

    def lost(self, contained: Collection[str]) -> set[str]:
        """Return which of `contained` have neither row nor reason: their label is nowhere any more.

        A label that a person had set aside (requeued) is not lost: the next one is under way. None is before every
        result was looked at.
        """
        if self.rest:
            return set()
        return set(contained) - self.labels - self.refused - set(self._set_aside)

    def take_frames(self, frames: Sequence[Atoms]) -> None:
        """Give every start structure that came with energy and forces a row (idempotent)."""
        self._frames = frames
        rows: list[DatasetRow] = []
        refused: dict[str, str] = {}
        for number, atoms in enumerate(frames):
            if has_label(atoms):
                try:
                    rows.append(row_of_frame(atoms, number, self._labeller, force_limit=self._force_limit))
                except DataError as error:
                    refused[f"{_START_KEY}{number}"] = str(error)
        self.refuse_all(refused)
        self._ingest(rows)

    def take_results(self) -> bool:
        """Give new results a row, or a reason why not; True if there was one. While `rest` is not 0, call again."""
        # Counted before any result is read: a result that is there now is newer than all that were set aside.
        self._set_aside = set_aside = self.results.editions()
        there = self._view.ids()
        self._forgive(there)
        new = sorted(there - self.labels - self.refused)
        rows: list[DatasetRow] = []
        refused: dict[str, str] = {}
        for task_id in new[:_BATCH]:
            try:
                record = self.results.read(task_id)
                row = row_of_result(record, self._labeller, force_limit=self._force_limit)
                rows.append(replace(row, edition=set_aside.get(task_id, 0)))
            except FileNotFoundError:  # requeued by hand in this moment
                continue
            except DataError as error:
                refused[task_id] = str(error)
        self.refuse_all(refused)
        self._ingest(rows)
        self.rest = len(new[_BATCH:])
        return self._take_relabelled(there, set_aside) or bool(new)

    def _take_relabelled(self, there: set[str], set_aside: Mapping[str, int]) -> bool:
        """Replace the rows of labels that a person had made again; True if there was one."""
        both = self.labels & there
        newer = [(i, n) for i, n in set_aside.items() if i in both and n > self.editions.get(i, 0)]
        refused: dict[str, str] = {}
        for task_id, edition in newer[:_BATCH]:
            try:
                record = self.results.read(task_id)
                row = row_of_result(record, self._labeller, force_limit=self._force_limit)
                (row,) = self._moments.judged([replace(row, edition=edition)])
                self.dataset.replace(row)
            except FileNotFoundError:  # set aside once more in this moment
                continue
            except DataError as error:
                refused[task_id] = str(error)
            else:
                self._pardon(task_id)
                self._flag(row)
            self.editions[task_id] = edition
        self.refuse_all(refused)
        self.rest += len(newer[_BATCH:])
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
        self.refuse_all({task_id: reason})

    def refuse_all(self, reasons: Mapping[str, str]) -> None:
        """Leave labels out, by task id; the file of refusals is written once."""
        new = {task_id: reason for task_id, reason in reasons.items() if task_id not in self.refused}
        for reason in new.values():
            logger.warning("refused: %s", reason)
        add_refusals(self.run, new)
        self.refused.update(new)

    def _ingest(self, rows: Sequence[DatasetRow]) -> None:
        if rows:
            rows = self._moments.judged(rows)
            taken = self.dataset.ingest(rows)
            self._stamp = self.dataset.stamp()
            self.labels.update(taken)
            self._take_sides([row for row in rows if row.task_id in set(taken)])
            self.editions |= {row.task_id: row.edition for row in rows if row.edition and row.task_id in taken}
            dropped = {i for i, why in read_refusals(self.run).items() if why.startswith(DROPPED)} & set(taken)
            self.refused |= dropped
            remove_refusals(self.run, set(taken) - dropped)
            for row in rows:
                self._flag(row)

    def _take_sides(self, rows: Sequence[DatasetRow]) -> None:
        self.audits.update(row.task_id for row in rows if row.config_type == AUDIT)
        for side, members in (("validation", self.validation), ("margin", self.margin)):
            members.update(row.task_id for row in rows if side_of(row.config_type, row.origin) == side)

    def _flag(self, row: DatasetRow) -> None:
        """Remember what is odd about a row that was just written."""
        self.flags.pop(row.task_id, None)
        if row.flags:
            self.flags[row.task_id] = row.flags
            logger.warning("label %s: kept, but %s", row.task_id, "; ".join(row.flags.values()))

    def _forgive(self, there: set[str]) -> None:
        """Forget refusals whose result was set aside (requeued by hand): the next label is judged anew."""
        gone = {task_id for task_id in self.refused - there if not task_id.startswith(_START_KEY)} - self.labels
        if gone:
            remove_refusals(self.run, gone)
            self.refused -= gone
