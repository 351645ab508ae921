"""Active sets: the rows that span what a fit has seen, and how far a new row lies outside of them.

A linear model with columns B_k knows a new environment b if b is a combination of the training rows with small
coefficients. MaxVol (Goreinov, Oseledets, Savostyanov, Tyrtyshnikov, Zamarashkin 2010,
doi:10.1142/9789812836021_0015) chooses k training rows A of (locally) largest determinant; then the extrapolation grade
gamma(b) = max_j |(b A^-1)_j| is at most 1 on the training rows (Podryabinkin & Shapeev 2017,
doi:10.1016/j.commatsci.2017.08.031; for ACE Lysogorskiy, Bochkarev, Mrovec, Drautz 2023,
doi:10.1103/PhysRevMaterials.7.043801).

Real training rows are rank deficient: perfect crystals, flat systems, fewer rows than functions. Inverting noise there
gives grades of 1e10 for every real atom; leaving the missing directions out gives a grade that is blind to them. Here
the rows are split by their singular values into directions that the data resolve and the rest:

    B D^-1 = U S V^T,     D = size of each column,     V = [V1 (k, r) | V2 (k, k - r)]

* resolved (S_j above `resolution`): MaxVol on the well-conditioned rows of U1 picks r training rows C = U1[picked];
* unresolved: one artificial row per direction of V2, as long as the resolution (or as the largest component that a
  training row has there, if that is more).

    A = [ C S1 V1^T ]  D            A^-1 = D^-1 [ V1 S1^-1 C^-1 | V2 / length ]
        [ length V2^T ]

So training rows keep gamma <= 1, rounding noise (1e-16) counts as 1e-16 / resolution, and a component of real size in
a direction that no training row has counts as that size / resolution.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]

# Measured on a two-dimensional Lennard-Jones liquid and 52 functions: finer raises the grade of a squeezed pair (2.9 A
# where 3.4 A was seen: 7 at 1e-4, 10 at 1e-5, 18 at 1e-6) but counts ever smaller differences between functions.
RESOLUTION = 1e-5

# Swap until no row would enlarge the volume by more than this factor; 1.001 is what the field uses.
_TOLERANCE = 1.001
_MOST_EXCHANGES = 500
_MOST_ROUNDS = 20
# A column whose largest value is below this share of the largest column's is rounding noise, not a column.
_NOISE = 1e-10


@dataclass(frozen=True)
class ActiveSet:
    """What is needed to grade a row.

    Attributes
    ----------
    indices : (r,) rows that were selected, r = number of resolved directions
    inverse : (k, k) A^-1, C order; ``gamma = max |row @ inverse|``
    """

    indices: IndexArray
    inverse: FloatArray

    def gamma(self, rows: FloatArray) -> FloatArray:
        """Return the extrapolation grade (n,) of `rows` (n, k), dimensionless; above 1 is extrapolation."""
        return grade(rows, self.inverse)


def grade(rows: FloatArray, inverse: FloatArray) -> FloatArray:
    """Return max_j |(rows @ inverse)_j| (n,)."""
    if len(rows) == 0:
        return np.zeros(0)
    grades: FloatArray = np.abs(rows @ inverse).max(axis=1)
    return grades


def active_set(rows: FloatArray, *, resolution: float = RESOLUTION) -> ActiveSet:
    """Select the active set of `rows`.

    Parameters
    ----------
    rows
        (n, k) basis functions of n training environments of one element; n may be smaller than k, even 0.
    resolution
        Dimensionless share of a typical row (each column measured by its largest value) below which a direction counts
        as never seen.

    Returns
    -------
    ActiveSet
        With gamma <= 1.001 on every one of `rows`.

    Raises
    ------
    ValueError
        `rows` is not two-dimensional or not finite.
    """
    rows = np.asarray(rows, dtype=float)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError("rows: expected a finite two-dimensional array")
    sizes = _column_sizes(rows)
    scaled = rows / sizes
    directions, spread = _principal_directions(scaled)
    coordinates = scaled @ directions
    reach = np.abs(coordinates).max(axis=0) if len(rows) else np.zeros(rows.shape[1])
    threshold = resolution * _typical_length(scaled)
    resolved = (reach > threshold) & (spread > 0)
    left = coordinates[:, resolved] / spread[resolved]
    picked = maxvol(left)
    inverse = np.empty((rows.shape[1], rows.shape[1]))
    rank = len(picked)
    inverse[:, :rank] = directions[:, resolved] / spread[resolved] @ np.linalg.inv(left[picked])
    inverse[:, rank:] = directions[:, ~resolved] / np.maximum(reach[~resolved], threshold)
    return ActiveSet(picked, np.ascontiguousarray(inverse / sizes[:, None]))


def maxvol(matrix: FloatArray) -> IndexArray:
    """Return r rows of `matrix` (n, r), of full column rank, whose determinant no single exchange enlarges by 0.1 %.

    Starts from the pivots of Gaussian elimination and exchanges one row at a time; each exchange multiplies the volume
    by the largest grade, so it ends.
    """
    rank = matrix.shape[1]
    if rank == 0:
        return np.zeros(0, dtype=np.int64)
    _, _, pivots = scipy.linalg.qr(matrix.T, mode="economic", pivoting=True)
    picked = np.asarray(pivots[:rank], dtype=np.int64)
    for _ in range(_MOST_ROUNDS):
        # From scratch each round: rank-one updates gather rounding errors.
        grades = matrix @ np.linalg.inv(matrix[picked])
        if float(np.abs(grades).max()) <= _TOLERANCE:
            break
        _exchange(grades, picked)
    return picked


def _exchange(grades: FloatArray, picked: IndexArray) -> None:
    """Exchange rows in place until no grade is above the tolerance."""
    for _ in range(_MOST_EXCHANGES):
        row, column = np.unravel_index(int(np.abs(grades).argmax()), grades.shape)
        pivot = grades[row, column]
        if abs(pivot) <= _TOLERANCE:
            return
        change = grades[row].copy()
        change[column] -= 1.0
        grades -= np.outer(grades[:, column] / pivot, change)
        picked[column] = row


def _column_sizes(rows: FloatArray) -> FloatArray:
    """Return (k,) the largest absolute value of each column; a typical one where there is only noise."""
    sizes = np.abs(rows).max(axis=0) if len(rows) else np.zeros(rows.shape[1])
    largest = sizes.max(initial=0.0)
    real = sizes > _NOISE * largest
    sizes[~real] = np.median(sizes[real]) if real.any() else 1.0
    return np.asarray(sizes, dtype=float)


def _principal_directions(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the right singular vectors (k, k) and singular values (k,), zeros appended where n < k."""
    k = rows.shape[1]
    # The triangle has the singular values of the rows at a fraction of the memory.
    triangle = np.linalg.qr(rows, mode="r") if len(rows) > k else rows
    square = np.zeros((k, k))
    square[: len(triangle)] = triangle
    _, spread, directions = np.linalg.svd(square)
    return directions.T, spread


def _typical_length(rows: FloatArray) -> float:
    """Return the root-mean-square length of the rows; 1 if there are none."""
    length = float(np.sqrt(np.mean(np.sum(rows**2, axis=1)))) if len(rows) else 0.0
    return length if length > 0 else 1.0
