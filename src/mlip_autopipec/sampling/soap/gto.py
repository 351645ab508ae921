"""Radial part of SOAP in closed form: Gaussian-type orbitals and their overlap with the Gaussian of an atom.

    g_nl(r) = sum_k beta_lnk r^l exp(-alpha_lk r^2)                                          (orthonormal for each l)
    <g_nl Y_lm | exp(-|r - R|^2 / (2 sigma^2))> = G_nl(R) R^l Y_lm(R),
    G_nl(R) = pi^(3/2) sum_k beta_lnk eta^l (alpha_lk + eta)^-(l + 3/2) exp(-a_lk R^2),
    a_lk = eta alpha_lk / (alpha_lk + eta),      eta = 1 / (2 sigma^2)

Primitive k has decayed to `THRESHOLD` at a distance between 1 A and r_cut, equally spaced (Jaeger et al.,
doi:10.1038/s41524-018-0096-5; Himanen et al., doi:10.1016/j.cpc.2019.106949).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gamma

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.sampling.soap.settings import NARROWEST_A, SoapSettings

THRESHOLD = 1e-3
# A direction of the primitives with this share of the largest overlap or less is rounding noise.
_DEPENDENT = 1e-14


@dataclass(frozen=True, eq=False)
class Orbitals:
    """The functions G_nl(R) = sum_k weights[l, n, k] exp(-decays[l, k] R^2).

    Attributes
    ----------
    decays : (l_max + 1, n_max), 1/A^2
    weights : (l_max + 1, n_max, n_max)
    """

    decays: FloatArray
    weights: FloatArray

    def values(self, r: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return G and dG/dR at distances `r` (nr,), A, each (nr, l_max + 1, n_max)."""
        gaussians = np.exp(-self.decays[None] * (r**2)[:, None, None])
        slopes = -2.0 * r[:, None, None] * self.decays[None] * gaussians
        return self._mixed(gaussians), self._mixed(slopes)

    def _mixed(self, primitives: FloatArray) -> FloatArray:
        return np.asarray(np.einsum("lnk,rlk->rln", self.weights, primitives))


def overlaps(settings: SoapSettings) -> tuple[FloatArray, FloatArray]:
    """Return alpha (l_max + 1, n_max), 1/A^2, and the overlaps of the primitives (l_max + 1, n_max, n_max)."""
    ends, levels = np.linspace(NARROWEST_A, settings.r_cut, settings.n_max), np.arange(settings.l_max + 1)[:, None]
    alpha = -np.log(THRESHOLD / ends**levels) / ends**2
    half = levels[:, :, None] + 1.5
    return alpha, 0.5 * gamma(half) * (alpha[:, :, None] + alpha[:, None, :]) ** -half


def orbitals(settings: SoapSettings) -> Orbitals:
    """Return the radial functions of `settings`.

    Raises
    ------
    ConfigError
        So many primitives that they are no longer independent in double precision.
    """
    alpha, overlap = overlaps(settings)
    eta, power = 0.5 / settings.sigma**2, np.arange(settings.l_max + 1)[:, None]
    spread = np.pi**1.5 * eta**power * (alpha + eta) ** -(power + 1.5)
    beta = np.array([_inverse_root(matrix, settings, level) for level, matrix in enumerate(overlap)])
    return Orbitals(eta * alpha / (alpha + eta), beta * spread[:, None, :])


def _inverse_root(overlap: FloatArray, settings: SoapSettings, level: int) -> FloatArray:
    """Return beta (n, k) = S^(-1/2)."""
    sizes, directions = np.linalg.eigh(overlap)
    if sizes[0] <= _DEPENDENT * sizes[-1]:
        raise ConfigError(
            f"soap.n_max: {settings.n_max} radial functions up to r_cut {settings.r_cut} A are linearly dependent at "
            f"l = {level}",
            "lower n_max or l_max, or raise r_cut",
        )
    return np.asarray((directions / np.sqrt(sizes)) @ directions.T)
