"""Look-up tables: cubic Hermite interpolation of radial functions on equal bins, as the formats' evaluators do it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlip_autopipec.ace.records import FloatArray


@dataclass(frozen=True, eq=False)
class HermiteTable:
    """Values and slopes of several functions at the nodes r_q = q * step, q = 0 .. n_bins.

    The last node is the cutoff, where every function is zero. Node 0 repeats node 1: evaluators refuse distances
    below one step.

    Attributes
    ----------
    step : width of a bin, A
    values : (n_bins + 1, n_functions)
    slopes : (n_bins + 1, n_functions), derivative times `step`
    """

    step: float
    values: FloatArray
    slopes: FloatArray

    @property
    def n_bins(self) -> int:
        return len(self.values) - 1

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
    """Return the nodes above zero for bins of about `width`, A; the last one is `rcut`."""
    count = max(1, int(rcut / width))
    r = np.arange(1, count + 1, dtype=np.float64) * (rcut / count)
    # Rounding must not leave the last node inside, where functions need not be zero.
    r[-1] = rcut
    return r


def hermite_table(r: FloatArray, values: FloatArray, derivatives: FloatArray) -> HermiteTable:
    """Make a table from functions at `nodes`: values and derivatives (n_bins, n_functions)."""
    step = float(r[0])
    return HermiteTable(
        step=step,
        values=np.ascontiguousarray(np.concatenate([values[:1], values])),
        slopes=np.ascontiguousarray(np.concatenate([derivatives[:1], derivatives])) * step,
    )
