"""Embedding functions F(rho; m) and their derivatives, doi:10.1038/s41524-021-00559-9."""

from __future__ import annotations

import math

import numpy as np

from mlip_autopipec.ace.records import Embedding, FloatArray
from mlip_autopipec.core.compiled.jit import inline

_W = 1.0e6
FINNIS_SINCLAIR, SHIFTED_SCALED = 0, 1


def embedding_arrays(embeddings: tuple[Embedding, ...]) -> tuple[FloatArray, FloatArray]:
    """Return parameters (n_species, 2 ndensity_max) and (n_species, 4): kind, ndensity, rho_core_cut, drho_core_cut."""
    parameters = np.zeros((len(embeddings), 2 * max(e.ndensity for e in embeddings)))
    shape = np.zeros((len(embeddings), 4))
    for mu, embedding in enumerate(embeddings):
        parameters[mu, : len(embedding.parameters)] = embedding.parameters
        kind = SHIFTED_SCALED if embedding.kind == "FinnisSinclairShiftedScaled" else FINNIS_SINCLAIR
        shape[mu] = kind, embedding.ndensity, embedding.rho_core_cut, embedding.drho_core_cut
    return parameters, shape


@inline
def finnis_sinclair(rho: float, m: float) -> tuple[float, float]:
    """Return F and dF/drho of sign(rho) |rho|^m, made linear near zero."""
    if m == 1.0:
        return rho, 1.0
    size = abs(rho)
    slope = _W ** (1.0 - m)
    if size <= 1e-10:
        return slope * rho, slope
    cube = (_W * size) ** 3
    near = math.exp(-cube) if cube <= 30.0 else 0.0
    power = size**m
    value = (1.0 - near) * power + slope * near * size
    dnear = -3.0 * _W**3 * size**2 * near
    derivative = m * power / size * (1.0 - near) + slope * near + dnear * (slope * size - power)
    return math.copysign(value, rho), derivative


@inline
def shifted_scaled(rho: float, m: float) -> tuple[float, float]:
    """Return F and dF/drho of the smooth form with F(0) = 0 and a finite slope there."""
    if abs(m - 1.0) < 1e-10:
        return rho, 1.0
    size = abs(rho)
    decay = math.exp(-size)
    if m == 0.5:
        x, y = 0.25 * decay, 0.5 * decay
        power = math.sqrt(x + size)
    else:
        n = 1.0 / m
        x = n ** (n / (1.0 - n)) * decay
        y = n ** (1.0 / (1.0 - n)) * decay
        power = (x + size) ** m
    return math.copysign(power - y, rho), y + m * (1.0 - x) * power / (x + size)


@inline
def embed(kind: float, rho: float, m: float) -> tuple[float, float]:
    """Return F and dF/drho of the given kind."""
    return shifted_scaled(rho, m) if kind == SHIFTED_SCALED else finnis_sinclair(rho, m)


@inline
def quintic_switch(x: float, end: float, width: float) -> tuple[float, float]:
    """Return S and dS/dx: 1 up to end - width, 0 from `end` on, a quintic between."""
    if x <= end - width:
        return 1.0, 0.0
    if x >= end:
        return 0.0, 0.0
    t = (x - end + width) / width
    return 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t * t), -30.0 * t**2 * (1.0 - t) ** 2 / width
