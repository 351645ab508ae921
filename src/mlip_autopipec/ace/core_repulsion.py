"""Core repulsion of a pair, with derivative: exponential-over-distance or Ziegler-Biersack-Littmark.

ZBL: Ziegler, Biersack, Littmark, The Stopping and Range of Ions in Matter (1985), doi:10.1007/978-1-4615-8103-1_3.
"""

from __future__ import annotations

import numpy as np
from ase.data import atomic_numbers

from mlip_autopipec.ace.radial import cosine_cutoff, inner_switch
from mlip_autopipec.ace.records import Bond, FloatArray

# e^2 / (4 pi epsilon_0) in eV A, as the files' evaluators have it.
_COULOMB = 14.399645351950543
STRENGTHS = np.array([0.18175, 0.50986, 0.28022, 0.02817])
DECAYS = np.array([3.19980, 0.94229, 0.40290, 0.20162])
_EXPONENT_LIMIT = 50.0


def core_function(bond: Bond, r: FloatArray, elements: tuple[str, str]) -> tuple[FloatArray, FloatArray]:
    """Return c(r), eV, and dc/dr for distances r (nr,), A; zero from rcut on."""
    if bond.prehc == 0.0:
        return np.zeros_like(r), np.zeros_like(r)
    if bond.inner_cutoff_type == "zbl":
        c, dc = _zbl(bond, r, atomic_numbers[elements[0]], atomic_numbers[elements[1]])
    else:
        c, dc = _exponential(bond, r)
        if bond.inner_cutoff_type == "distance":
            switch, dswitch = inner_switch(r, bond.r_in, bond.delta_in)
            c, dc = c * switch, dc * switch + c * dswitch
    inside = r < bond.rcut
    return np.where(inside, c, 0.0), np.where(inside, dc, 0.0)


def _exponential(bond: Bond, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    lam = abs(bond.lambdahc)
    bare = abs(bond.prehc) * np.exp(-lam * r**2) / r
    envelope, slope = cosine_cutoff(r, bond.rcut)
    alive = bond.lambdahc * r**2 < _EXPONENT_LIMIT
    c = bare * envelope
    dc = bare * (slope - envelope * (2.0 * lam * r + 1.0 / r))
    return np.where(alive, c, 0.0), np.where(alive, dc, 0.0)


def _zbl(bond: Bond, r: FloatArray, z_i: int, z_j: int) -> tuple[FloatArray, FloatArray]:
    screening = screening_length(z_i, z_j)
    width, rcut = bond.dcut, bond.rcut
    v, dv, _ = screened(r, screening)
    end, dend, ddend = (float(part[0]) for part in screened(np.array([rcut]), screening))
    # The polynomial takes value and two derivatives to zero at rcut.
    shift = -end + width * dend / 2.0 - width**2 * ddend / 12.0
    a = (-3.0 * dend + width * ddend) / width**2
    b = (2.0 * dend - width * ddend) / width**3
    t = np.clip(r - (rcut - width), 0.0, None)
    smooth, dsmooth = shift + a / 3.0 * t**3 + b / 4.0 * t**4, a * t**2 + b * t**3
    switch, dswitch = inner_switch(r, rcut, width)
    strength = bond.prehc * _COULOMB / 2.0 * z_i * z_j
    return strength * (v + smooth) * switch, strength * ((dv + dsmooth) * switch + (v + smooth) * dswitch)


def screening_length(z_i: int, z_j: int) -> float:
    """Return the length that ZBL scales distances with, A."""
    return float(0.46850 / (z_i**0.23 + z_j**0.23))


def screened(r: FloatArray, screening: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return phi(r/a)/r with first and second derivative."""
    decays = DECAYS / screening
    terms = STRENGTHS * np.exp(-decays * r[:, None])
    phi, dphi, ddphi = terms.sum(1), -(terms * decays).sum(1), (terms * decays**2).sum(1)
    return phi / r, dphi / r - phi / r**2, ddphi / r - 2.0 * dphi / r**2 + 2.0 * phi / r**3
