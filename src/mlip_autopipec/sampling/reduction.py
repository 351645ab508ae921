"""First step of DIRECT: descriptors are normalised and reduced to the principal components that matter.

Qi et al., npj Comput. Mater. 10, 43 (2024), doi:10.1038/s41524-024-01227-4. Rows are read block by block: their count,
mean and covariance are exact sums (Chan, Golub & LeVeque 1983, doi:10.1080/00031305.1983.10483115), so one pass gives
both the normalisation and the components, where an incremental singular-value decomposition would need two and round.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import FloatArray

Scores = NDArray[np.float32]
"""(n, m) weighted principal components, in single precision: millions of them stay in memory."""
Blocks: TypeAlias = Iterable[FloatArray]
"""Blocks (b, D) of descriptors that can be read again and again (no generator)."""

_EPS = float(np.finfo(float).eps)


class Moments:
    """Count, mean and covariance of rows that come in blocks.

    Attributes
    ----------
    count : number of rows so far
    mean : (D,)
    scatter : (D, D) sum of products of deviations from the mean
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = np.zeros(0)
        self.scatter = np.zeros((0, 0))

    def add(self, rows: FloatArray) -> None:
        """Add rows (b, D).

        Raises
        ------
        DataError
            A number is not finite, or D differs from that of earlier rows.
        """
        if not self.count:
            width = rows.shape[1]
            self.mean, self.scatter = np.zeros(width), np.zeros((width, width))
        if rows.shape[1] != len(self.mean):
            raise DataError(f"descriptors: rows of {rows.shape[1]} numbers after rows of {len(self.mean)}")
        if not len(rows):
            return
        middle = rows.mean(axis=0, dtype=float)
        # A sum is finite only if all that went in is, or nearly so large that it is useless anyway.
        if not np.isfinite(middle).all():
            raise DataError("descriptors: a number is not finite", "remove the structure that it belongs to")
        deviations = rows - middle
        total, shift = self.count + len(rows), middle - self.mean
        self.scatter += deviations.T @ deviations
        self.scatter += np.outer(shift, shift) * (self.count * len(rows) / total)
        self.mean = self.mean + shift * (len(rows) / total)
        self.count = total


@dataclass(frozen=True, eq=False)
class Reduction:
    """Maps descriptors to weighted principal components.

    Attributes
    ----------
    count : number of rows it was made from
    mean, scale : (D,) of the descriptors; columns that are constant have scale infinity
    components : (D, m)
    explained : (m,) share of the variance of the normalised descriptors
    weights : (m,) what the components are multiplied with
    """

    count: int
    mean: FloatArray
    scale: FloatArray
    components: FloatArray
    explained: FloatArray
    weights: FloatArray

    def project(self, rows: FloatArray) -> Scores:
        """Return the weighted principal components (n, m) of descriptors (n, D)."""
        return (((rows - self.mean) / self.scale) @ (self.components * self.weights)).astype(np.float32)

    def project_all(self, blocks: Blocks) -> Scores:
        """Return the weighted principal components of the whole pool.

        Raises
        ------
        DataError
            There are not as many rows as when the reduction was made: a generator, or files that changed.
        """
        scores = np.empty((self.count, len(self.weights)), dtype=np.float32)
        first = 0
        for rows in blocks:
            if first + len(rows) <= self.count:
                scores[first : first + len(rows)] = self.project(rows)
            first += len(rows)
        if first != self.count:
            raise DataError(
                f"descriptors: {self.count} rows in the first pass, {first} in the second",
                "give blocks that can be read again, not a generator",
            )
        return scores


def fit_reduction(blocks: Blocks, *, explained: float | None = None, weighted: bool = True) -> Reduction:
    """Return the reduction of a pool of descriptors, read once.

    Parameters
    ----------
    explained
        Keep as many components as explain this share of the variance; None: those with a variance above 1, that of one
        normalised descriptor (Kaiser's rule, as Qi et al.).
    weighted
        Multiply components by their share of the variance, as Qi et al.

    Raises
    ------
    DataError
        There are fewer than two different rows, or a number is not finite.
    """
    moments = Moments()
    for rows in blocks:
        moments.add(rows)
    if moments.count < 2:
        raise DataError(f"descriptors: {moments.count} rows; nothing to choose from", "explore longer")
    spread = np.sqrt(np.maximum(np.diag(moments.scatter), 0.0) / moments.count)
    # Summing n rows leaves rounding of this size in a column that is constant.
    varies = spread > 10.0 * _EPS * np.sqrt(moments.count) * (np.abs(moments.mean) + spread)
    if not varies.any():
        raise DataError("descriptors: all rows are alike; nothing to choose from", "explore hotter")
    scale = np.where(varies, spread, np.inf)
    variances, directions = np.linalg.eigh(moments.scatter / moments.count / np.outer(scale, scale))
    variances, directions = variances[::-1], directions[:, ::-1]
    shares = np.maximum(variances, 0.0) / varies.sum()
    if explained is None:
        kept = int(np.sum(variances > 1.0))
    else:
        kept = int(np.searchsorted(np.cumsum(shares), explained * (1.0 - 1e-12))) + 1
    kept = min(max(kept, 1), int(varies.sum()))
    shares = shares[:kept].copy()
    weights = shares if weighted else np.ones(kept)
    return Reduction(moments.count, moments.mean, scale, directions[:, :kept].copy(), shares, weights)
