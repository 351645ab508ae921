"""Clebsch-Gordan coefficients by Racah's formula in exact integers, doi:10.1103/PhysRev.62.438."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache

import numpy as np

from mlip_autopipec.ace.records import BoolArray, FloatArray

# (l1, m1, l2, m2, L) of coefficients that vanish by chance and that python-ace, which rounds, does not find to vanish
# (l1, l2 <= 6, L <= 6 or l1, l2 <= 4; seen from outside). Its functions list such m-vectors, and are ordered by how
# many they list. One of each four that differ by an exchange or a change of all signs.
_ROUNDED = frozenset(
    {
        (2, -1, 4, -2, 5),
        (3, -2, 3, 1, 3),
        (3, -2, 3, 2, 2),
        (3, -2, 4, 1, 4),
        (3, -2, 5, -1, 6),
        (3, -2, 5, 1, 5),
        (3, -2, 6, 1, 6),
        (3, -1, 5, 1, 6),
        (3, -1, 6, 0, 5),
        (4, -3, 5, 0, 6),
        (4, -2, 4, 0, 6),
        (4, -2, 5, -1, 5),
        (4, -2, 5, 3, 5),
        (5, -4, 6, 2, 6),
        (5, -2, 5, 1, 5),
        (5, -2, 6, 1, 6),
        (5, -1, 6, 0, 3),
        (6, -5, 6, 5, 3),
    }
)


def is_listed(l1: int, m1: int, l2: int, m2: int, L: int) -> bool:
    """Return whether files list the products that go with this coefficient: it is not zero, or rounding hides that."""
    if clebsch_gordan(l1, m1, l2, m2, L, m1 + m2) != 0.0:
        return True
    same = [(l1, m1, l2, m2), (l2, m2, l1, m1)]
    return min((a, s * x, b, s * y, L) for a, x, b, y in same for s in (1, -1)) in _ROUNDED


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


@cache
def listed_table(l1: int, l2: int, L: int) -> BoolArray:
    """Return `is_listed` as (2 l1 + 1, 2 l2 + 1), indexed by m + l."""
    rows = [[is_listed(l1, m1, l2, m2, L) for m2 in range(-l2, l2 + 1)] for m1 in range(-l1, l1 + 1)]
    return np.array(rows, dtype=bool)
