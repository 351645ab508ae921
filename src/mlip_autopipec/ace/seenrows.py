"""What an active set has seen, so that it can go on when more rows come without reading the old ones again.

Of every row its coefficients in the rows of the active set are kept, C = rows @ A^-1. After an exchange of a few rows
of the set they are

    C' = C T,   T = (A' A^-1)^-1 = 1 + F,   where F has rows only at the exchanged places,

a product with few columns. They are of single precision and only tell which rows may lie outside: those are read, and
what happens follows from their exact grades. So a process that has read all rows anew goes on in the same way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mlip_autopipec.ace.maxvol import TOLERANCE, ActiveSet, FloatArray, IndexArray, Rows, blocks, grade, settle

# Far more than what rounding in single precision gathers until all rows are read anew, and less than what keeps the
# rows of the set itself (gamma 1) out.
_MARGIN = 5e-4
_MOST_SWEEPS = 100


class SeenRows:
    """The coefficients (n, r) of all rows that an active set has seen, in single precision.

    Parameters
    ----------
    active
        Its r resolved rows; directions that no row has must stay so (`ActiveSet.inverse` beyond column r).
    rows
        (n, k) all that it has seen, in order, at once or as blocks.
    """

    def __init__(self, active: ActiveSet, rows: Rows) -> None:
        self.active = active
        self._coefficients = np.concatenate([self._of(block) for block in blocks(rows)])

    def __len__(self) -> int:
        return len(self._coefficients)

    def append(self, rows: FloatArray) -> None:
        """Take in further rows (m, k)."""
        self._coefficients = np.concatenate([self._coefficients, self._of(rows)])

    def settled(self, read: Callable[[IndexArray], FloatArray]) -> ActiveSet:
        """Exchange rows until gamma is at most 1.001 on all that were seen, and return the set.

        Parameters
        ----------
        read
            Gives the rows (m, k) of these numbers (m,), ascending.
        """
        whitening, rest = np.split(self.active.inverse, [len(self.active.rows)], axis=1)
        picked, chosen, grading = self.active.indices.copy(), self.active.rows.copy(), whitening
        for _ in range(_MOST_SWEEPS):
            numbers = self._suspects()
            near = read(numbers) if len(numbers) else np.zeros((0, len(whitening)))
            outside = grade(near, grading) > TOLERANCE
            if not outside.any():
                break
            picked, chosen, _, _ = settle(picked, chosen, whitening, numbers[outside], near[outside])
            self._exchange(chosen @ grading)
            grading = whitening @ np.linalg.inv(chosen @ whitening)
            # Those were large, and so is their rounding error.
            self._coefficients[numbers[outside]] = near[outside] @ grading
        self.active = ActiveSet(picked, np.ascontiguousarray(np.concatenate([grading, rest], axis=1)), chosen)
        return self.active

    def _of(self, rows: FloatArray) -> NDArray[np.float32]:
        found: NDArray[np.float32] = (rows @ self.active.inverse[:, : len(self.active.rows)]).astype(np.float32)
        return found

    def _suspects(self) -> IndexArray:
        largest = np.maximum(self._coefficients.max(axis=1, initial=0.0), -self._coefficients.min(axis=1, initial=0.0))
        return np.flatnonzero(largest > TOLERANCE - _MARGIN)

    def _exchange(self, chosen: FloatArray) -> None:
        """Go over to the set whose rows have the coefficients `chosen` (r, r) in the old one."""
        change = np.linalg.inv(chosen) - np.eye(len(chosen))
        places = np.flatnonzero(np.abs(chosen - np.eye(len(chosen))).max(axis=1, initial=0.0) > 1e-9)
        self._coefficients += self._coefficients[:, places] @ change[places].astype(np.float32)
