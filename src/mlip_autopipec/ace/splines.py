"""Look-up tables: cubic Hermite interpolation of radial functions on equal bins, as the formats' evaluators do it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlip_autopipec.ace.records import FloatArray


@dataclass(frozen=True, eq=False)
class HermiteTable:
    """Values and slopes of several functions at the nodes r_q = q * step, q = 0 .. n_bins + 2.

    Node n_bins is the cutoff; the two beyond it are zero, and so is the bin between them, where padding stands.
    Node 0 repeats node 1: evaluators refuse distances below one step.

    Attributes
    ----------
    step : width of a bin, A
    values : (n_bins + 3, n_functions)
    slopes : (n_bins + 3, n_functions), derivative times `step`
    """

    step: float
    values: FloatArray
    slopes: FloatArray

    @property
    def n_bins(self) -> int:
        return len(self.values) - 3

    def interpolate(self, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return values and derivatives, each (nr, n_functions); zero from the cutoff on."""
        position = r / self.step
        q = np.minimum(position.astype(np.int64), self.n_bins - 1)
        w = (position - q)[:, None]
        f0, f1, d0, d1 = self.values[q], self.values[q + 1], self.slopes[q], self.slopes[q + 1]
        rise = f1 - f0
        c2, c3 = 3.0 * rise - 2.0 * d0 - d1, d0 + d1 - 2.0 * rise
        inside = (position < self.n_bins)[:, None]
        value = f0 + w * (d0 + w * (c2 + w * c3))
        slope = (d0 + w * (2.0 * c2 + 3.0 * w * c3)) / self.step
        return np.where(inside, value, 0.0), np.where(inside, slope, 0.0)


def nodes(rcut: float, width: float) -> FloatArray:
    """Return the nodes above zero for bins of about `width`, A; the last one is `rcut`, but for rounding."""
    count = max(1, int(rcut / width))
    # Some functions jump to zero at the cutoff, so whether rounding puts the last node inside decides on the last
    # bin. This is the order of operations of the formats' evaluators (found by trying: 300 of 300 random cutoffs).
    return np.arange(1, count + 1, dtype=np.float64) * (1.0 / (count / rcut))


def hermite_table(r: FloatArray, values: FloatArray, derivatives: FloatArray) -> HermiteTable:
    """Make a table from functions at `nodes`: values and derivatives (n_bins, n_functions)."""
    step, beyond = float(r[0]), np.zeros((2, values.shape[1]))
    return HermiteTable(
        step=step,
        values=np.concatenate([values[:1], values, beyond]),
        slopes=np.concatenate([derivatives[:1], derivatives, beyond]) * step,
    )
