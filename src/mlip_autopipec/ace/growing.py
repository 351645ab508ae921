"""What a refit after a few more labels need not do again: rows that are reduced, rows that an active set has seen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlip_autopipec.ace.linear import LabelledDesign, RowReducer, Triangle
from mlip_autopipec.ace.maxvol import TOLERANCE, ActiveSet, active_set
from mlip_autopipec.ace.rowblocks import RowBlocks
from mlip_autopipec.ace.seenrows import SeenRows
from mlip_autopipec.core.interfaces import FloatArray

# Each continuation starts from the last one's inverse: from time to time all begins anew, before rounding gathers.
_MOST_GROWTH = 2.0


class GrowingRows:
    """Rows of structures of which mostly more come, as labels do: what was reduced once is not reduced again.

    Parameters
    ----------
    n_columns
        Number of coefficients K.
    """

    def __init__(self, n_columns: int) -> None:
        self._columns = n_columns
        self._taken: list[Hashable] = []
        self._reducers: dict[Hashable, RowReducer] = {}

    def triangle(
        self,
        keys: Sequence[Hashable],
        structure: Callable[[int], Iterable[tuple[Hashable, LabelledDesign]]],
        scales: Mapping[Any, float],
    ) -> Triangle:
        """Return the triangle of all structures; its bits do not depend on what was asked for before.

        Parameters
        ----------
        keys
            One per structure; equal ones have equal rows. Where these begin with those of the last call, only the
            further structures are read.
        structure
            Gives the rows of a place in `keys`, and which part of all rows each belongs to.
        scales
            Part -> factor of the weights (squared errors) of its rows, 0 or more; this may change from call to call.
            Parts that are not named keep their weights.
        """
        if list(keys[: len(self._taken)]) != self._taken:
            self._taken, self._reducers = [], {}
        for place in range(len(self._taken), len(keys)):
            # All of them before the first is taken: a label that is refused leaves nothing behind.
            for part, rows in [(part, design.rows()) for part, design in structure(place)]:
                self._reducers.setdefault(part, RowReducer(self._columns)).add(*rows)
            self._taken.append(keys[place])
        triangles = {part: reducer.triangle() for part, reducer in self._reducers.items()}
        if len(triangles) == 1 and all(scales.get(part, 1.0) == 1.0 for part in triangles):
            return next(iter(triangles.values()))
        together = RowReducer(self._columns)
        for part, triangle in triangles.items():
            if (factor := scales.get(part, 1.0)) > 0:
                together.merge(triangle.scaled(factor))
        return together.triangle()


@dataclass(frozen=True)
class GrownSet:
    """The active set of one element, and how many rows it has seen.

    Attributes
    ----------
    active : the set
    n_seen : rows that it covers
    n_selected : how many of them there were when it was last selected from scratch
    """

    active: ActiveSet
    n_seen: int
    n_selected: int


class GrowingSet:
    """The active set of one element from fit to fit."""

    def __init__(self) -> None:
        self._labels: list[Hashable] = []
        self._seen: SeenRows | None = None

    def of(self, before: GrownSet | None, rows: RowBlocks, labels: Sequence[Hashable] = ()) -> GrownSet:
        """Return the active set of all rows: on from `before`, or selected anew.

        Parameters
        ----------
        before
            Of rows that are the first of all; None selects anew, as it is done whenever the rows have doubled.
        rows
            All rows. What a call before has seen of them is not read again, but for the few that change the set.
        labels
            What the rows come from, in order: others than those of the call before have other rows.
        """
        n_rows = rows.n_rows
        if before is not None and before.n_seen == n_rows:
            return before
        if before is not None and n_rows <= _MOST_GROWTH * before.n_selected:
            known = self._known(before, labels)
            self._labels = list(labels)
            new = rows.at(np.arange(before.n_seen, n_rows))
            if before.active.spans(new):
                return GrownSet(self._continued(before.active, known, new, rows), n_rows, before.n_selected)
        active = active_set(rows)
        self._labels, self._seen = list(labels), SeenRows(active, rows)
        return GrownSet(active, n_rows, n_rows)

    def _known(self, before: GrownSet, labels: Sequence[Hashable]) -> SeenRows | None:
        """Return what is remembered, if it is of that set and those rows."""
        seen = self._seen
        if seen is None or len(seen) != before.n_seen or self._labels != list(labels[: len(self._labels)]):
            return None
        return seen if np.array_equal(seen.active.inverse, before.active.inverse) else None

    def _continued(self, active: ActiveSet, seen: SeenRows | None, new: FloatArray, rows: RowBlocks) -> ActiveSet:
        if seen is not None:
            seen.append(new)
        elif active.gamma(new).max(initial=0.0) > TOLERANCE:
            seen = SeenRows(active, rows)
        self._seen = seen
        return active if seen is None else seen.settled(rows.at)
