"""Complex spherical harmonics times sqrt(4 pi), Condon-Shortley phase, as Y_lm(x, y, z) = Q_lm(z) (x + i y)^m.

On the unit sphere Q_lm(z) = (-1)^m sqrt((2l+1) (l-m)!/(l+m)!) d^m P_l / dz^m is a polynomial in z. Only m >= 0 is
computed: Y_l,-m = (-1)^m conj(Y_lm).
"""

from __future__ import annotations

import numpy as np

from mlip_autopipec.ace.records import FloatArray


def recursion_coefficients(lmax: int) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return what the recursion over l needs, each (lmax + 2, lmax + 2), indexed [l, m].

    Q_lm = a z Q_(l-1)m - b Q_(l-2)m above the diagonal `start`, and dQ_lm/dz = slope Q_l(m+1).
    """
    size = lmax + 2
    a, b, slope, start = (np.zeros((size, size)) for _ in range(4))
    diagonal = 1.0
    for m in range(size):
        start[m, m] = diagonal
        diagonal *= -np.sqrt((2 * m + 3) / (2 * m + 2))
        for angular in range(m + 1, size):
            a[angular, m] = np.sqrt((4 * angular**2 - 1) / (angular**2 - m**2))
            if angular > m + 1:
                b[angular, m] = a[angular, m] * np.sqrt(((angular - 1) ** 2 - m**2) / (4 * (angular - 1) ** 2 - 1))
        for angular in range(m, size):
            slope[angular, m] = -np.sqrt((angular - m) * (angular + m + 1))
    return a, b, slope, start
