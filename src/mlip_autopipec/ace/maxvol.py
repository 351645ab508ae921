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

Rows are read block by block, a few times over, so that they may be larger than memory: a list of arrays mapped from
files will do. Three passes find S and V (from a triangle, as in `linear`), the reach of the faintest directions and
first rows (the pivots of Gaussian elimination on those so far and the next block: Grigori, Demmel, Xiang 2011,
doi:10.1137/100788926); then passes exchange rows until one of them finds nothing to exchange.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]
Rows: TypeAlias = FloatArray | Iterable[FloatArray]
"""(n, k), or blocks of such rows that can be read again and again (no generator)."""

# Measured on a two-dimensional Lennard-Jones liquid and 52 functions: finer raises the grade of a squeezed pair (2.9 A
# where 3.4 A was seen: 7 at 1e-4, 10 at 1e-5, 18 at 1e-6) but counts ever smaller differences between functions.
RESOLUTION = 1e-5

# Exchange until no row would enlarge the volume by more than this factor; 1.001 is what the field uses.
TOLERANCE = 1.001
_MOST_SWEEPS = 100
# Rows with a smaller grade are hardly ever outside after a few exchanges.
_NEAR = 0.7
# A column whose largest value is below this share of the largest column's is rounding noise, not a column.
_NOISE = 1e-10
# Numbers in a block: 8 MB, small beside the triangle's work, large beside Python's.
_BLOCK = 2**20


@dataclass(frozen=True)
class ActiveSet:
    """What is needed to grade a row, and to go on selecting.

    Attributes
    ----------
    indices : (r,) rows that were selected, r = number of resolved directions
    inverse : (k, k) A^-1, C order; ``gamma = max |row @ inverse|``
    rows : (r, k) the selected rows themselves
    """

    indices: IndexArray
    inverse: FloatArray
    rows: FloatArray

    def gamma(self, rows: FloatArray) -> FloatArray:
        """Return the extrapolation grade (n,) of `rows` (n, k), dimensionless; above 1 is extrapolation."""
        return grade(rows, self.inverse)

    def spans(self, rows: FloatArray) -> bool:
        """Tell whether `rows` (n, k) have nothing in the directions that the data did not resolve.

        Raises
        ------
        ValueError
            `rows` are not finite.
        """
        if not np.isfinite(rows).all():
            raise ValueError("rows: expected finite numbers")
        return bool(grade(rows, self.inverse[:, len(self.rows) :]).max(initial=0.0) <= TOLERANCE)


def grade(rows: FloatArray, inverse: FloatArray) -> FloatArray:
    """Return max_j |(rows @ inverse)_j| (n,)."""
    if len(rows) == 0:
        return np.zeros(0)
    grades: FloatArray = np.abs(rows @ inverse).max(axis=1, initial=0.0)
    return grades


def active_set(rows: Rows, *, resolution: float = RESOLUTION) -> ActiveSet:
    """Select the active set of `rows`.

    Parameters
    ----------
    rows
        (n, k) basis functions of n training environments of one element, at once or as blocks of rows; n may be
        smaller than k, even 0. Beside what is passed, memory holds a block and a few (k, k) matrices.
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
        `rows` is not two-dimensional or not finite, or can be read only once.
    """
    sizes, triangle, n_rows = _summary(rows)
    scaled = triangle / sizes
    _, spread, directions = np.linalg.svd(scaled)
    directions = directions.T
    threshold = resolution * _typical_length(scaled, n_rows)
    reach = _reach(rows, directions / sizes[:, None], spread, threshold, n_rows)
    resolved = (reach > threshold) & (spread > 0)
    picked, chosen, found = _select(rows, directions[:, resolved] / spread[resolved] / sizes[:, None])
    rest = directions[:, ~resolved] / np.maximum(reach[~resolved], threshold) / sizes[:, None]
    return ActiveSet(picked, np.ascontiguousarray(np.concatenate([found, rest], axis=1)), chosen)


def maxvol(matrix: FloatArray) -> IndexArray:
    """Return r rows of `matrix` (n, r), of full column rank, whose determinant no single exchange enlarges by 0.1 %."""
    return _select(matrix, np.eye(matrix.shape[1]))[0]


def blocks(rows: Rows) -> Iterator[FloatArray]:
    """Yield (m, k) arrays of limited size, small ones together; at least one, perhaps without rows."""
    if isinstance(rows, Iterator):
        raise ValueError("rows are read several times: give a list of blocks or an array, not a generator")
    gathered: list[FloatArray] = []
    for part in [rows] if isinstance(rows, np.ndarray) else rows:
        if part.ndim != 2:
            raise ValueError("rows: expected two-dimensional arrays")
        step = max(1, _BLOCK // max(1, part.shape[1]))
        if sum(map(len, gathered)) + len(part) > step and gathered:
            yield np.concatenate(gathered)
            gathered = []
        if len(part) <= step:
            gathered.append(np.asarray(part, dtype=float))
            continue
        for first in range(0, len(part), step):
            yield np.asarray(part[first : first + step], dtype=float)
    if gathered:
        yield np.concatenate(gathered)


def _summary(rows: Rows) -> tuple[FloatArray, FloatArray, int]:
    """Return column sizes (k,), the triangle (k, k) of the rows and their number.

    The triangle has the singular values of the rows; dividing its columns is as good as dividing theirs.
    """
    sizes, triangle, n_rows = np.zeros(0), np.zeros((0, 0)), 0
    for block in blocks(rows):
        if not np.isfinite(block).all():
            raise ValueError("rows: expected finite numbers")
        if not len(sizes):
            sizes, triangle = np.zeros(block.shape[1]), np.zeros((0, block.shape[1]))
        n_rows += len(block)
        sizes = np.maximum(sizes, np.abs(block).max(axis=0, initial=0.0))
        stacked = np.concatenate([triangle, block])
        if len(stacked) > len(sizes):
            stacked = np.asarray(np.linalg.qr(stacked, mode="r"), dtype=float)
        triangle = stacked
    square = np.zeros((len(sizes), len(sizes)))
    square[: len(triangle)] = triangle
    return _column_sizes(sizes), square, n_rows


def _column_sizes(sizes: FloatArray) -> FloatArray:
    """Return (k,) the largest absolute value of each column; a typical one where there is only noise."""
    real = sizes > _NOISE * sizes.max(initial=0.0)
    return np.where(real, sizes, np.median(sizes[real]) if real.any() else 1.0)


def _typical_length(triangle: FloatArray, n_rows: int) -> float:
    """Return the root-mean-square length of the rows; 1 if there are none."""
    length = float(np.sqrt(np.sum(triangle**2) / max(1, n_rows)))
    return length if length > 0 else 1.0


def _reach(rows: Rows, directions: FloatArray, spread: FloatArray, threshold: float, n_rows: int) -> FloatArray:
    """Return per direction the largest component of any row, or where it must be above `threshold` a lower bound.

    It lies between the singular value and this over sqrt(n): only where the threshold lies between, rows are read.
    """
    reach = spread / np.sqrt(max(1, n_rows))
    unclear = (reach <= threshold) & (spread > threshold)
    if unclear.any():
        largest = np.zeros(int(unclear.sum()))
        for block in blocks(rows):
            largest = np.maximum(largest, np.abs(block @ directions[:, unclear]).max(axis=0, initial=0.0))
        reach[unclear] = largest
    return reach


def _select(rows: Rows, whitening: FloatArray) -> tuple[IndexArray, FloatArray, FloatArray]:
    """Run MaxVol on ``rows @ whitening`` (n, r), which has full column rank.

    Returns
    -------
    picked (r,), rows[picked] (r, k), and (k, r) what grades a row: whitening @ inverse of the picked.
    """
    picked, chosen = _pivots(rows, whitening)
    return _exchanged(rows, picked, chosen, whitening)


def _exchanged(
    rows: Rows, picked: IndexArray, chosen: FloatArray, whitening: FloatArray
) -> tuple[IndexArray, FloatArray, FloatArray]:
    """Exchange rows until no further one would enlarge the volume; spoils `picked` and `chosen`."""
    for _ in range(_MOST_SWEEPS):
        numbers, near = _nearly_outside(rows, whitening @ np.linalg.inv(chosen @ whitening))
        picked, chosen, _, settled = settle(picked, chosen, whitening, numbers, near)
        if settled:
            break
    return picked, chosen, whitening @ np.linalg.inv(chosen @ whitening)


def settle(
    picked: IndexArray, chosen: FloatArray, whitening: FloatArray, numbers: IndexArray, near: FloatArray
) -> tuple[IndexArray, FloatArray, FloatArray, bool]:
    """Exchange with the rows `near` until they settle; the last says whether nothing had to be exchanged."""
    settled = True
    for _ in range(_MOST_SWEEPS):
        # From scratch: rank-one updates gather rounding errors.
        grading = whitening @ np.linalg.inv(chosen @ whitening)
        exchanges = list(_exchanges(near @ grading))
        if not exchanges:
            break
        settled = False
        for place, row in exchanges:
            picked[place], chosen[place] = numbers[row], near[row]
    return picked, chosen, whitening, settled


def _nearly_outside(rows: Rows, grading: FloatArray) -> tuple[IndexArray, FloatArray]:
    """Return indices and rows with the largest grades: those outside, and those that exchanges may put there."""
    numbers, near, largest, first = np.zeros(0, dtype=np.int64), np.zeros((0, len(grading))), np.zeros(0), 0
    most = max(1, _BLOCK // max(1, len(grading)))
    for block in blocks(rows):
        grades = np.abs(block @ grading).max(axis=1, initial=0.0)
        found = np.flatnonzero(grades > _NEAR)
        numbers, near = np.concatenate([numbers, first + found]), np.concatenate([near, block[found]])
        largest = np.concatenate([largest, grades[found]])
        if len(numbers) > most:
            kept = np.argpartition(-largest, most)[:most]
            numbers, near, largest = numbers[kept], near[kept], largest[kept]
        first += len(block)
    return numbers, near


def _pivots(rows: Rows, whitening: FloatArray) -> tuple[IndexArray, FloatArray]:
    """Return indices and rows of a first choice: a tournament of each block against the best so far."""
    rank = whitening.shape[1]
    picked, chosen, first = np.zeros(0, dtype=np.int64), np.zeros((0, len(whitening))), 0
    for block in blocks(rows) if rank else ():
        numbers = np.concatenate([picked, np.arange(first, first + len(block))])
        stacked = np.concatenate([chosen, block])
        order = np.arange(len(stacked))
        _, swaps, _ = lapack.dgetrf(stacked @ whitening)
        for k, other in enumerate(swaps):
            order[k], order[other] = order[other], order[k]
        picked, chosen = numbers[order[:rank]], stacked[order[:rank]]
        first += len(block)
    return picked, chosen


def _exchanges(grades: FloatArray) -> Iterator[tuple[int, int]]:
    """Yield (place, row) to exchange, largest first, until no grade is above the tolerance; `grades` are spoilt.

    Each exchange multiplies the volume by the largest grade, so it ends.
    """
    while grades.size:
        row, place = (int(x) for x in np.unravel_index(int(np.abs(grades).argmax()), grades.shape))
        pivot = grades[row, place]
        if not abs(pivot) > TOLERANCE:
            return
        yield place, row
        change = grades[row].copy()
        change[place] -= 1.0
        grades -= np.outer(grades[:, place] / pivot, change)
