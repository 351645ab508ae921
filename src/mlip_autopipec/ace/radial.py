"""Radial basis g_k(r) and radial functions R_nl(r) = sum_k c[n][l][k] g_k(r), with derivatives, analytically.

The evaluators interpolate these (see `splines`). Equations: Lysogorskiy et al., doi:10.1038/s41524-021-00559-9;
spherical Bessel kind: Kocer et al., doi:10.1063/1.5086167.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlip_autopipec.ace.records import Bond, FloatArray

KINDS = ("ChebExpCos", "ChebPow", "ChebLinear", "SBessel")
# Keeps powers below 1 finite at the cutoff, where all functions are set to zero anyway.
_TINY = 1e-300


def is_known(name: str) -> bool:
    """Return whether `name` is a radial basis of the formats; names that begin with TEST_ are zero functions."""
    return name in KINDS or name.startswith("TEST_")


def radial_basis(bond: Bond, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return g and dg/dr, each (nr, nradbase), inner and outer cutoffs included.

    Parameters
    ----------
    r : (nr,) distances, A, above zero
    """
    rows = r[:, None]
    kind = bond.radbase.removeprefix("TEST_")
    if kind == "SBessel":
        g, dg = _spherical_bessel(bond.nradbase, bond.rcut, r)
    elif bond.radbase == "ChebExpCos":
        g, dg = _cheb_exp_cos(bond, r)
    elif bond.radbase == "ChebPow":
        lam, ratio = bond.radparameters[0], np.clip(1.0 - rows / bond.rcut, _TINY, None)
        x, dx = 1.0 - 2.0 * ratio**lam, 2.0 * lam / bond.rcut * ratio ** (lam - 1.0)
        g, dg = _half_complement(x, dx, np.arange(1, bond.nradbase + 1))
    elif bond.radbase == "ChebLinear":
        x, dx = 1.0 - rows / bond.rcut, np.full_like(rows, -1.0 / bond.rcut)
        g, dg = _half_complement(x, dx, np.arange(1, bond.nradbase + 1))
    else:
        g, dg = np.zeros((len(r), bond.nradbase)), np.zeros((len(r), bond.nradbase))
    g, dg = _inner_cutoff(bond, r, g, dg)
    outside = r >= bond.rcut
    g[outside] = 0.0
    dg[outside] = 0.0
    return g, dg


def radial_functions(bond: Bond, g: FloatArray) -> FloatArray:
    """Return R (nr, nradmax, lmax + 1) from g (nr, nradbase); the same map takes dg to dR."""
    return np.einsum("nlk,rk->rnl", bond.radcoefficients, g)


def inner_switch(r: FloatArray, r_in: float, width: float) -> tuple[FloatArray, FloatArray]:
    """Return S and dS/dr: 1 up to r_in - width, 0 from r_in on, a quintic between."""
    if width <= 0.0:
        return np.where(r < r_in, 1.0, 0.0), np.zeros_like(r)
    t = np.clip((r - r_in + width) / width, 0.0, 1.0)
    return 1.0 - t**3 * (10.0 - 15.0 * t + 6.0 * t**2), -30.0 * t**2 * (1.0 - t) ** 2 / width


def cosine_cutoff(r: FloatArray, rcut: float) -> tuple[FloatArray, FloatArray]:
    """Return (1 + cos(pi r / rcut)) / 2 and its derivative."""
    phase = np.pi * r / rcut
    return 0.5 * (1.0 + np.cos(phase)), -0.5 * np.pi / rcut * np.sin(phase)


def _chebyshev(x: FloatArray, orders: np.ndarray) -> tuple[FloatArray, FloatArray]:
    """Return T_q(x) and dT_q/dx for x (nr, 1) and orders (K,)."""
    top = int(orders.max(initial=1))
    t, u = [np.ones_like(x), x], [np.ones_like(x), 2.0 * x]
    for _ in range(top - 1):
        t.append(2.0 * x * t[-1] - t[-2])
        u.append(2.0 * x * u[-1] - u[-2])
    values = np.concatenate(t, axis=1)
    slopes = np.concatenate([np.zeros_like(x), *(q * u[q - 1] for q in range(1, len(t)))], axis=1)
    return values[:, orders], slopes[:, orders]


def _half_complement(x: FloatArray, dx: FloatArray, orders: np.ndarray) -> tuple[FloatArray, FloatArray]:
    t, dt = _chebyshev(x, orders)
    return 0.5 * (1.0 - t), -0.5 * dt * dx


def _cheb_exp_cos(bond: Bond, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    x, dx = (part[:, None] for part in _exponential_coordinate(bond, r))
    h, dh = _half_complement(x, dx, np.arange(bond.nradbase))
    h[:, :1], dh[:, :1] = 1.0, 0.0
    envelope, slope = (part[:, None] for part in _envelope(bond, r))
    return h * envelope, dh * envelope + h * slope


def _exponential_coordinate(bond: Bond, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return x from -1 at r = 0 to 1 at rcut, and dx/dr."""
    lam = bond.radparameters[0]
    decay, scale = np.exp(-lam * r / bond.rcut), 1.0 - np.exp(-lam)
    return 1.0 - 2.0 * (decay - np.exp(-lam)) / scale, 2.0 * lam / bond.rcut * decay / scale


def _envelope(bond: Bond, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the cosine cutoff with the extra taper over the last dcut, and its derivative."""
    envelope, slope = cosine_cutoff(r, bond.rcut)
    if bond.dcut <= 0:
        return envelope, slope
    taper, dtaper = cosine_cutoff(np.clip(r - (bond.rcut - bond.dcut), 0.0, None), bond.dcut)
    return envelope * taper, slope * taper + envelope * dtaper


def _bessel_steps(count: int, rcut: float) -> Iterator[tuple[float, float, float]]:
    """Yield per function: factor of s((n+1) ..) + s((n+2) ..), share of the function before, norm."""
    d_last = 1.0
    for n in range(count):
        factor = (-1.0) ** n * np.sqrt(2.0) * np.pi * rcut**-1.5 * (n + 1) * (n + 2) / np.hypot(n + 1, n + 2)
        e = n**2 * (n + 2) ** 2 / (4.0 * (n + 1) ** 4 + 1.0)
        d = 1.0 - e / d_last
        yield factor, np.sqrt(e / d_last), np.sqrt(d)
        d_last = d


def _spherical_bessel(count: int, rcut: float, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    g, dg = np.zeros((len(r), count)), np.zeros((len(r), count))
    last, dlast = np.zeros_like(r), np.zeros_like(r)
    for n, (factor, shift, norm) in enumerate(_bessel_steps(count, rcut)):
        q1, q2 = (n + 1) * np.pi / rcut, (n + 2) * np.pi / rcut
        (s1, ds1), (s2, ds2) = _sinc(q1 * r), _sinc(q2 * r)
        last = (factor * (s1 + s2) + shift * last) / norm
        dlast = (factor * (q1 * ds1 + q2 * ds2) + shift * dlast) / norm
        g[:, n], dg[:, n] = last, dlast
    return g, dg


def _sinc(t: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return sin(t)/t and its derivative; the derivative by its series where the formula cancels."""
    value = np.sinc(t / np.pi)
    small = np.abs(t) < 0.5
    square = np.where(small, t, 0.0) ** 2
    series = -t / 3 * (1 - square / 10 * (1 - square / 28 * (1 - square / 54 * (1 - square / 88 * (1 - square / 130)))))
    safe = np.where(small, 1.0, t)
    return value, np.where(small, series, (np.cos(t) - value) / safe)


def _inner_cutoff(bond: Bond, r: FloatArray, g: FloatArray, dg: FloatArray) -> tuple[FloatArray, FloatArray]:
    if bond.inner_cutoff_type == "distance":
        switch, dswitch = inner_switch(r, bond.r_in, bond.delta_in)
        off, doff = (1.0 - switch)[:, None], -dswitch[:, None]
        return g * off, dg * off + g * doff
    # Both remaining kinds leave g alone, but the files' evaluators zero it below these distances.
    below = bond.r_in - bond.delta_in if bond.inner_cutoff_type == "density" else float(bond.delta_in == 0.0)
    inside = (r <= below)[:, None]
    return np.where(inside, 0.0, g), np.where(inside, 0.0, dg)


def recurrence_start(bond: Bond, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return x, t_0, t_1 and 0, (nr, 4), and their derivatives, of the recurrence t_(k+1) = 2 x t_k - t_(k-1).

    Together with `recurrence_mix` this gives all g_k, inner and outer cutoffs included.
    """
    zeros, ones = np.zeros_like(r), np.ones_like(r)
    kind = bond.radbase.removeprefix("TEST_")
    if kind == "SBessel":
        phase, scale = np.pi * r / bond.rcut, np.pi / bond.rcut
        x, dx = np.cos(phase), -scale * np.sin(phase)
        sinc, dsinc = _sinc(phase)
        starts = (zeros, zeros), (sinc, scale * dsinc)
    else:
        if kind == "ChebExpCos":
            x, dx = _exponential_coordinate(bond, r)
            envelope, slope = _envelope(bond, r)
        else:
            lam, ratio = bond.radparameters[0] if kind == "ChebPow" else 1.0, np.clip(1.0 - r / bond.rcut, _TINY, None)
            x, dx = 1.0 - 2.0 * ratio**lam, 2.0 * lam / bond.rcut * ratio ** (lam - 1.0)
            if kind == "ChebLinear":
                x, dx = ratio, -ones / bond.rcut
            envelope, slope = ones, zeros
        starts = (envelope, slope), (envelope * x, slope * x + envelope * dx)
    t, dt = np.stack([start for start, _ in starts], 1), np.stack([slope for _, slope in starts], 1)
    t, dt = _inner_cutoff(bond, r, t, dt)
    outside = r >= bond.rcut
    t[outside], dt[outside] = 0.0, 0.0
    return np.column_stack([x, t, zeros]), np.column_stack([dx, dt, zeros])


def recurrence_mix(bond: Bond) -> FloatArray:
    """Return (nradbase, nradbase + 2), g_k = sum_q mix[k, q] t_q."""
    count = bond.nradbase
    mix = np.zeros((count, count + 2))
    kind = bond.radbase.removeprefix("TEST_")
    if kind == "SBessel":
        _mix_bessel(mix, bond.rcut)
    elif kind == "ChebExpCos":
        mix[:, 0] = 0.5
        mix[np.arange(1, count), np.arange(1, count)] = -0.5
        mix[:1, 0] = 1.0
    elif kind in KINDS:
        mix[:, 0] = 0.5
        mix[np.arange(count), np.arange(1, count + 1)] = -0.5
    return mix


def _mix_bessel(mix: FloatArray, rcut: float) -> None:
    """Fill the mix of t_q = sin(q pi r / rcut) / (pi r / rcut)."""
    last = np.zeros(mix.shape[1])
    for n, (factor, shift, norm) in enumerate(_bessel_steps(len(mix), rcut)):
        f = np.zeros(mix.shape[1])
        f[n + 1], f[n + 2] = factor / (n + 1), factor / (n + 2)
        last = (f + shift * last) / norm
        mix[n] = last
