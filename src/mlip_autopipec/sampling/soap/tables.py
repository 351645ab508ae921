"""All that a kernel needs to know of the settings, as flat arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlip_autopipec.core.compiled.aligned import aligned_zeros
from mlip_autopipec.core.compiled.vectors import WIDTH
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.sampling.soap.gto import Orbitals, orbitals
from mlip_autopipec.sampling.soap.settings import SoapSettings

# Bins in units of the narrowest Gaussian's decay^(-1/2): cubic Hermite interpolation errs by bin^4 / 32 of its height.
_BIN = 0.02


class Tables(NamedTuple):
    """Settings as the kernels see them.

    Rows of harmonics and sums: l^2 for m = 0, l^2 + 2 m - 1 and l^2 + 2 m for Re and Im of m > 0.

    Attributes
    ----------
    columns : (l_max + 1) * width radial functions of one neighbour
    width : n_max, padded to whole vectors
    n_bins : number of bins of the radial tables; bin `n_bins` is zero, for what lies outside
    limits : (2,) reach^2, A^2, and bins per A
    radial : ((n_bins + 1) * 4 * columns,) per bin the coefficients 1, w, w^2, w^3 of all functions
    recursion : ((l_max + 1)^2,) P_lm = z P_(l-1)m - recursion[l (l_max + 1) + m] r^2 P_(l-2)m
    norms : ((l_max + 1)^2,) of each row of harmonics
    prefactors : (l_max + 1,) of the power spectrum
    """

    n_species: int
    n_max: int
    l_max: int
    n_features: int
    width: int
    columns: int
    n_bins: int
    limits: FloatArray
    radial: FloatArray
    recursion: FloatArray
    norms: FloatArray
    prefactors: FloatArray

    @property
    def n_rows(self) -> int:
        return (self.l_max + 1) ** 2


def make_tables(settings: SoapSettings) -> Tables:
    """Return the tables of `settings`.

    Raises
    ------
    ConfigError
        The radial functions are linearly dependent.
    """
    functions = orbitals(settings)
    width = -(-settings.n_max // WIDTH) * WIDTH
    n_bins = int(np.ceil(settings.reach * np.sqrt(functions.decays.max()) / _BIN))
    levels = np.arange(settings.l_max + 1)
    recursion, norms = _harmonics(settings.l_max)
    return Tables(
        n_species=len(settings.species),
        n_max=settings.n_max,
        l_max=settings.l_max,
        n_features=settings.n_features,
        width=width,
        columns=(settings.l_max + 1) * width,
        n_bins=n_bins,
        limits=np.array([settings.reach**2, n_bins / settings.reach]),
        radial=_radial(functions, width, n_bins, settings.reach),
        recursion=recursion.ravel(),
        norms=norms,
        prefactors=np.pi * np.sqrt(8.0 / (2.0 * levels + 1.0)),
    )


def _radial(functions: Orbitals, width: int, n_bins: int, reach: float) -> FloatArray:
    step = reach / n_bins
    values, slopes = functions.values(np.linspace(0.0, reach, n_bins + 1))
    slopes *= step
    rise, d0, d1 = values[1:] - values[:-1], slopes[:-1], slopes[1:]
    levels, n_max = values.shape[1:]
    radial = aligned_zeros((n_bins + 1) * 4 * levels * width)
    cubic = radial.reshape(n_bins + 1, 4, levels, width)[:-1, :, :, :n_max]
    cubic[:, 0], cubic[:, 1] = values[:-1], d0
    cubic[:, 2], cubic[:, 3] = 3.0 * rise - 2.0 * d0 - d1, d0 + d1 - 2.0 * rise
    return np.asarray(radial)


def _harmonics(l_max: int) -> tuple[FloatArray, FloatArray]:
    """Return the recursion of P_lm, whose leading coefficient is 1, and the norms of its real harmonics.

    r^l Y_lm = norm P_lm(z, r^2) times Re or Im of (x + i y)^m.
    """
    recursion, norms = np.zeros((l_max + 1, l_max + 1)), np.zeros((l_max + 1) ** 2)
    start = 1.0 / (4.0 * np.pi)
    for m in range(l_max + 1):
        square = start * (2.0 if m else 1.0)
        for angular in range(m, l_max + 1):
            if angular > m:
                square *= (4.0 * angular**2 - 1.0) / (angular**2 - m**2)
                recursion[angular, m] = ((angular - 1.0) ** 2 - m**2) / (4.0 * (angular - 1.0) ** 2 - 1.0)
            row = angular**2 + 2 * m
            norms[row - 1 if m else row : row + 1] = np.sqrt(square)
        start *= (2.0 * m + 3.0) / (2.0 * m + 2.0)
    return recursion, norms
