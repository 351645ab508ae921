"""Clebsch-Gordan coefficients by Racah's formula in exact integers, doi:10.1103/PhysRev.62.438."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np

from mlip_autopipec.ace.records import FloatArray


@cache
def clebsch_gordan(l1: int, m1: int, l2: int, m2: int, L: int, M: int) -> float:
    """Return <l1 m1 l2 m2 | L M>, real, Condon-Shortley phase; exactly 0.0 where it vanishes."""
    if m1 + m2 != M or not abs(l1 - l2) <= L <= l1 + l2 or abs(m1) > l1 or abs(m2) > l2 or abs(M) > L:
        return 0.0
    f = math.factorial
    total = Fraction(0)
    for k in range(max(0, l2 - L - m1, l1 - L + m2), min(l1 + l2 - L, l1 - m1, l2 + m2) + 1):
        below = f(k) * f(l1 + l2 - L - k) * f(l1 - m1 - k) * f(l2 + m2 - k) * f(L - l2 + m1 + k) * f(L - l1 - m2 + k)
        total += Fraction((-1) ** k, below)
    if total == 0:
        return 0.0
    square = Fraction((2 * L + 1) * f(L + l1 - l2) * f(L - l1 + l2) * f(l1 + l2 - L), f(l1 + l2 + L + 1))
    square *= f(L + M) * f(L - M) * f(l1 - m1) * f(l1 + m1) * f(l2 - m2) * f(l2 + m2)
    return math.copysign(math.sqrt(square * total**2), total)


@cache
def clebsch_gordan_table(l1: int, l2: int, L: int) -> FloatArray:
    """Return <l1 m1 l2 m2 | L m1+m2> as (2 l1 + 1, 2 l2 + 1), indexed by m + l."""
    table = np.zeros((2 * l1 + 1, 2 * l2 + 1))
    for m1 in range(-l1, l1 + 1):
        for m2 in range(-l2, l2 + 1):
            table[m1 + l1, m2 + l2] = clebsch_gordan(l1, m1, l2, m2, L, m1 + m2)
    return table
