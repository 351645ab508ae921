"""A virtual active set: what the active set will be once the cells that wait for their labels are in it.

Of an active set only A^-1 is known (the `.asi` file). A row b with c = b A^-1 is outside if |c_j| > 1 for some j. Put
in the place of row j it multiplies the volume by |c_j|, and by Sherman & Morrison (doi:10.1214/aoms/1177729893)

    A'^-1 = A^-1 - A^-1[:, j] (c - e_j) / c_j

so MaxVol's exchanges (Goreinov et al. 2010, doi:10.1142/9789812836021_0015) need nothing but A^-1. The sum of log |c_j|
over the exchanges is the growth of log |det A|: how much a cell would teach. Two cells that say the same are told apart
by it: when one has entered, the other gains nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mlip_autopipec.ace.maxvol import grade
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.core.errors import ModelError

# As in `maxvol`: exchange until no row would enlarge the volume by more than this factor.
_TOLERANCE = 1.001
# Each exchange enlarges the volume, so it ends; this is for rows that rounding lets oscillate.
_MOST_EXCHANGES = 20


def entered(inverse: FloatArray, rows: FloatArray) -> tuple[FloatArray, float]:
    """Let rows into an active set by exchanges.

    Parameters
    ----------
    inverse
        (k, k) A^-1; not changed.
    rows
        (n, k) rows that come.

    Returns
    -------
    inverse : (k, k) A'^-1, under which no row of `rows` has a gamma above 1.001
    gain : log |det A'| - log |det A|, dimensionless, at least 0
    """
    changed, gain = inverse, 0.0
    if len(rows) == 0:
        return changed, gain
    for _ in range(_MOST_EXCHANGES * max(len(rows), 1)):
        grades = rows @ changed
        row, place = (int(i) for i in np.unravel_index(int(np.abs(grades).argmax()), grades.shape))
        pivot = grades[row, place]
        if not abs(pivot) > _TOLERANCE:
            break
        change = grades[row].copy()
        change[place] -= 1.0
        changed = changed - np.outer(changed[:, place] / pivot, change)
        gain += float(np.log(abs(pivot)))
    return changed, gain


class VirtualSet:
    """The active sets of all elements, into which cells may enter.

    Parameters
    ----------
    inverses
        Element -> (k, k) A^-1, as `read_asi` gives it; not changed.
    """

    def __init__(self, inverses: Mapping[str, FloatArray]) -> None:
        self._inverses = dict(inverses)

    def copy(self) -> VirtualSet:
        """Return another one, into which other cells may enter."""
        return VirtualSet(self._inverses)

    def gamma(self, rows: Mapping[str, FloatArray]) -> float:
        """Return the largest extrapolation grade of the rows (element -> (n, k)); 0 without rows.

        Raises
        ------
        ModelError
            An element has no active set.
        """
        return max((float(grade(r, self._of(e)).max(initial=0.0)) for e, r in rows.items()), default=0.0)

    def gain(self, rows: Mapping[str, FloatArray]) -> float:
        """Return by how much log |det A|, summed over elements, would grow if the rows entered."""
        return sum(entered(self._of(element), values)[1] for element, values in rows.items())

    def enter(self, rows: Mapping[str, FloatArray]) -> float:
        """Let the rows in and return what `gain` would have returned."""
        total = 0.0
        for element, values in rows.items():
            self._inverses[element], gain = entered(self._of(element), values)
            total += gain
        return total

    def _of(self, element: str) -> FloatArray:
        try:
            return self._inverses[element]
        except KeyError:
            raise ModelError(f"no active set of {element}", "label a structure that contains it") from None
