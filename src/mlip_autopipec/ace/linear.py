"""Weighted, regularised, rank-revealing linear least squares over the design rows of many structures.

The loss is

    sum_s  w_E (E_s - A_s c)^2 / N_s  +  w_F sum_{i unmasked, x} (F_ix - A_ix c)^2   +   ridge |P D c|^2

(energies in eV relative to isolated atoms, forces in eV/A; D = length of columns to a power, P = stiffness by rank).
Dividing the squared energy error by the number of atoms is right if the errors of the atoms are independent.

Rows are reduced block by block to a triangle (TSQR: Demmel, Grigori, Hoemmen, Langou 2012, doi:10.1137/080731992), so
memory does not grow with the data and the condition number is not squared, as it is by normal equations. The ridge is
chosen by the evidence (MacKay 1992, doi:10.1162/neco.1992.4.3.415), whose maximum over the noise level is closed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import Design, FloatArray

_EPS = float(np.finfo(float).eps)
# Ridges that are tried, relative to the largest squared singular value: from rounding noise to "all is noise".
_LOG_RIDGES = np.linspace(-30.0, 0.0, 301)


@dataclass(frozen=True)
class LabelledDesign:
    """One structure's design rows with its label and what they weigh.

    Attributes
    ----------
    name : who it is, for messages
    energy : eV, relative to isolated atoms
    forces : (N, 3) eV/A
    learned : (N,) bool; the forces of the other atoms do not enter in any way
    energy_weight : w_E, dimensionless; 0 leaves the row out
    force_weight : w_F, dimensionless, of all atoms or (N,) of each; 0 leaves rows out
    """

    name: str
    design: Design
    energy: float
    forces: FloatArray
    learned: NDArray[np.bool_]
    energy_weight: float
    force_weight: float | FloatArray

    def rows(self) -> tuple[FloatArray, FloatArray]:
        """Return the weighted rows (n, K) and targets (n,).

        Raises
        ------
        DataError
            A number that enters is not finite.
        """
        columns = len(self.design.energy)
        rows = [np.empty((0, columns))]
        targets = [np.empty(0)]
        if self.energy_weight > 0:
            weight = np.sqrt(self.energy_weight / len(self.learned))
            rows.append(weight * self.design.energy[None, :])
            targets.append(np.array([weight * self.energy]))
        weights = np.broadcast_to(np.sqrt(self.force_weight), self.learned.shape)
        if (entering := self.learned & (weights > 0)).any():
            each = np.repeat(weights[entering], 3)
            rows.append(each[:, None] * self.design.forces[entering].reshape(-1, columns))
            targets.append(each * self.forces[entering].ravel())
        matrix, values = np.concatenate(rows), np.concatenate(targets)
        if not (np.isfinite(matrix).all() and np.isfinite(values).all()):
            raise DataError(f"structure {self.name}: a label or a basis function is not finite", "remove its label")
        return matrix, values


@dataclass(frozen=True)
class Triangle:
    """All rows reduced to what least squares needs.

    Attributes
    ----------
    matrix : (m, K), m <= K
    targets : (m,)
    rest : sum of squares of the targets that no coefficients can reach
    n_rows : number of rows that went in
    """

    matrix: FloatArray
    targets: FloatArray
    rest: float
    n_rows: int

    def scaled(self, factor: float) -> Triangle:
        """Return the triangle of the same rows with `factor` times their weights."""
        root = np.sqrt(factor)
        return Triangle(root * self.matrix, root * self.targets, factor * self.rest, self.n_rows)


class RowReducer:
    """Takes rows in any number of blocks and keeps one triangle.

    Parameters
    ----------
    n_columns
        Number of coefficients K.
    """

    def __init__(self, n_columns: int) -> None:
        self._columns = n_columns
        self._triangle = np.empty((0, n_columns + 1))
        self._waiting: list[FloatArray] = []
        self._n_waiting = 0
        self._n_rows = 0

    def add(self, rows: FloatArray, targets: FloatArray) -> None:
        """Add weighted rows (n, K) with targets (n,)."""
        self._waiting.append(np.column_stack([rows, targets]))
        self._n_waiting += len(rows)
        self._n_rows += len(rows)
        # Large blocks amortise the triangle's own rows.
        if self._n_waiting >= 4 * (self._columns + 1):
            self._reduce()

    def merge(self, other: Triangle) -> None:
        """Add all rows that another reducer, of the same columns, has seen."""
        self.add(other.matrix, other.targets)
        self.add(np.zeros((1, self._columns)), np.array([np.sqrt(other.rest)]))
        self._n_rows += other.n_rows - len(other.matrix) - 1

    def triangle(self) -> Triangle:
        """Return the triangle of all rows so far.

        Asking changes nothing: rows that come later are reduced to the same bits as if nobody had asked.
        """
        triangle = self._reduced()
        rest = float(np.sum(triangle[self._columns :, -1] ** 2))
        return Triangle(triangle[: self._columns, :-1], triangle[: self._columns, -1], rest, self._n_rows)

    def _reduce(self) -> None:
        self._triangle = self._reduced()
        self._waiting, self._n_waiting = [], 0

    def _reduced(self) -> FloatArray:
        stacked = np.concatenate([self._triangle, *self._waiting])
        return np.asarray(np.linalg.qr(stacked, mode="r") if len(stacked) else stacked, dtype=float)


@dataclass(frozen=True)
class FitReport:
    """How a fit went; JSON-ready.

    Attributes
    ----------
    n_rows, n_columns : size of the problem
    n_resolved : directions that the data determine rather than the ridge (effective number of parameters)
    n_dropped : columns or directions that the data do not see at all
    ridge : dimensionless, relative to the largest squared singular value of the scaled matrix
    ridge_chosen : True if by the evidence, False if given
    noise : root-mean-square weighted residual that the model leaves
    """

    n_rows: int
    n_columns: int
    n_resolved: float
    n_dropped: int
    ridge: float
    ridge_chosen: bool
    noise: float


@dataclass(frozen=True)
class Fit:
    """The outcome of one fit.

    Attributes
    ----------
    coefficients : (K,) eV per basis function
    report : how it went
    influence : (K, m) so that ``noise**2 * influence @ influence.T`` is the covariance of the coefficients
    """

    coefficients: FloatArray
    report: FitReport
    influence: FloatArray


def fit(
    structures: Iterable[LabelledDesign],
    ranks: Sequence[int],
    *,
    ridge: float | None = None,
    rank_stiffness: float = 1.0,
    length_power: float = 1.0,
) -> Fit:
    """Fit coefficients to labelled structures; see the module for the loss.

    Parameters
    ----------
    structures
        Read once, one after the other.
    ranks
        (K,) correlation rank of each column.
    ridge, rank_stiffness, length_power
        As in `solve` and `stiffness_of`.

    Raises
    ------
    DataError
        There is no row with a weight, or a label is not finite.
    """
    reducer = RowReducer(len(ranks))
    for structure in structures:
        reducer.add(*structure.rows())
    return solve(reducer.triangle(), stiffness_of(ranks, rank_stiffness), ridge=ridge, length_power=length_power)


def stiffness_of(
    ranks: Sequence[int], rank_stiffness: float, degrees: Sequence[int] | None = None, smoothness: float = 0.0
) -> FloatArray:
    """Return (K,) how much closer to zero each column is held.

    ``rank_stiffness ** (rank - 1) * (1 + degree) ** smoothness``: steep functions, of high n or l, cost more.
    """
    stiffness = rank_stiffness ** (np.asarray(ranks, dtype=float) - 1.0)
    if degrees is not None:
        stiffness = stiffness * (1.0 + np.asarray(degrees, dtype=float)) ** smoothness
    return np.asarray(stiffness, dtype=float)


def solve(
    triangle: Triangle,
    stiffness: FloatArray | None = None,
    *,
    ridge: float | None = None,
    length_power: float = 1.0,
) -> Fit:
    """Solve the regularised least-squares problem.

    Parameters
    ----------
    triangle
        From `RowReducer`.
    stiffness
        (K,) positive; a column with a larger one is held closer to zero. None: all 1.
    ridge
        Relative to the largest squared singular value; None chooses by the evidence.
    length_power
        Columns are measured by this power of their length: 1 holds the contributions of all functions alike, 0 their
        coefficients, so that functions that hardly vary in the data are held close to zero.

    Raises
    ------
    DataError
        There are no rows, or all of them are zero.
    """
    lengths = np.sqrt(np.sum(triangle.matrix**2, axis=0))
    longest = lengths.max(initial=0.0)
    if triangle.n_rows == 0 or longest == 0:
        raise DataError("nothing to fit: no label has a weight", "label whole cells, or raise the weights")
    seen = lengths > 10 * _EPS * longest
    scale = lengths[seen] ** length_power * (np.ones(seen.sum()) if stiffness is None else stiffness[seen])
    left, spread, right = np.linalg.svd(triangle.matrix[:, seen] / scale, full_matrices=False)
    kept = spread > _EPS * max(triangle.matrix.shape) * spread[0]
    left, spread, right = left[:, kept], spread[kept], right[kept]
    reached = left.T @ triangle.targets
    # Not as a difference of squares, which would leave an error of 1e-8 of the targets.
    missed = triangle.rest + float(np.sum((triangle.targets - left @ reached) ** 2))
    squares = (spread / spread[0]) ** 2
    chosen = _most_evident(squares, reached, missed, triangle.n_rows) if ridge is None else ridge
    shrink = squares / (squares + chosen)
    coefficients = np.zeros(len(lengths))
    coefficients[seen] = right.T @ (shrink * reached / spread) / scale
    residual = missed + float(np.sum(((1 - shrink) * reached) ** 2))
    report = FitReport(
        n_rows=triangle.n_rows,
        n_columns=len(lengths),
        n_resolved=float(shrink.sum()),
        n_dropped=len(lengths) - int(kept.sum()),
        ridge=float(chosen),
        ridge_chosen=ridge is None,
        noise=float(np.sqrt(residual / max(triangle.n_rows - shrink.sum(), 1.0))),
    )
    influence = np.zeros((len(lengths), len(spread)))
    influence[seen] = right.T / np.sqrt(spread**2 + chosen * spread[0] ** 2) / scale[:, None]
    return Fit(coefficients, report, influence)


def _most_evident(squares: FloatArray, reached: FloatArray, missed: float, n_rows: int) -> float:
    """Return the ridge of largest evidence.

    With prior precision a, noise precision b and ridge = a / b, the evidence maximised over b is, up to a constant,
    2 log p = sum_j log(ridge / (ridge + s_j^2)) - n log(missed + sum_j q_j^2 ridge / (ridge + s_j^2)).
    """
    ridges = 10.0 ** _LOG_RIDGES[:, None]
    kept_out = ridges / (ridges + squares)
    # Rounding leaves this much of any target, however perfect the model.
    floor = n_rows * (_EPS * np.sqrt(missed + np.sum(reached**2))) ** 2
    losses = missed + floor + kept_out @ reached**2
    evidence = np.sum(np.log(kept_out), axis=1) - n_rows * np.log(losses)
    return float(ridges[int(evidence.argmax()), 0])
