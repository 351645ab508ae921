"""How far a label lies from what the others tell: studentised residuals of whole structures.

A label that a fit has seen pulls the fit towards itself, by its leverage: the residual of one that is alone in its
region is small whatever it says. With residuals r and the block H of the hat matrix of a structure's rows, the
residuals (I - H)^-1/2 r have the variance of the noise for all structures alike, if the label is right (Cook and
Weisberg 1982, Residuals and Influence in Regression, section 2.2).
"""

from __future__ import annotations

import numpy as np

from mlip_autopipec.core.interfaces import FloatArray

# Rounding leaves this much of a direction that only one structure determines.
_LEAST_FREEDOM = 1e-6


def studentised(rows: FloatArray, residuals: FloatArray, influence: FloatArray) -> float:
    """Return the root mean square of the studentised residuals of one structure, in the unit of `residuals`.

    Parameters
    ----------
    rows
        (n, K) weighted design rows that entered the fit.
    residuals
        (n,) that the fit leaves of their targets.
    influence
        (K, m) of the fit (`ace.linear.Fit`): the hat matrix is ``(rows @ influence) @ (rows @ influence).T``.
    """
    reduced = rows @ influence
    freedom = (1.0 + _LEAST_FREEDOM) * np.eye(len(rows)) - reduced @ reduced.T
    total = float(residuals @ np.linalg.solve(freedom, residuals))
    return float(np.sqrt(max(total, 0.0) / len(residuals)))
