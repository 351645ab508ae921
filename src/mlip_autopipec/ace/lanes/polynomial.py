"""Products of complex A as real polynomials in Re A and Im A."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlip_autopipec.ace.terms import Slot

Monomial = tuple[int, ...]
"""Sorted numbers of real variables."""


@dataclass(frozen=True, eq=False)
class Variables:
    """Numbers the real and imaginary parts of A[mu][n][l][m >= 0] that a central species uses.

    Per (mu, l) the used n are one group; each n has 2 l + 1 variables: m = 0, then Re and Im of m = 1, 2, ...

    Attributes
    ----------
    groups : (mu, l) -> ascending n
    first : (mu, l) -> number of the first variable of the group
    count : number of variables
    """

    groups: dict[tuple[int, int], tuple[int, ...]]
    first: dict[tuple[int, int], int]
    count: int

    def parts(self, slot: Slot) -> tuple[int, int | None, float, float]:
        """Return (real variable, imaginary variable, factor of each) of A in `slot`."""
        mu, n, angular, m = slot
        group = self.groups[mu, angular]
        first = self.first[mu, angular] + group.index(n) * (2 * angular + 1)
        if m == 0:
            return first, None, 1.0, 0.0
        re, im = first + 2 * abs(m) - 1, first + 2 * abs(m)
        if m > 0:
            return re, im, 1.0, 1.0
        # A_l,-m = (-1)^m conj(A_lm)
        sign = -1.0 if m % 2 else 1.0
        return re, im, sign, -sign


def number_variables(products: Sequence[Sequence[Slot]]) -> Variables:
    """Number the variables of all products of one central species."""
    used: dict[tuple[int, int], set[int]] = {}
    for product in products:
        for mu, n, angular, _ in product:
            used.setdefault((mu, angular), set()).add(n)
    groups = {key: tuple(sorted(used[key])) for key in sorted(used)}
    first, count = {}, 0
    for key, group in groups.items():
        first[key] = count
        count += len(group) * (2 * key[1] + 1)
    return Variables(groups, first, count)


def real_part(product: Sequence[Slot], variables: Variables) -> dict[Monomial, float]:
    """Expand Re prod A into monomials with coefficients."""
    real: dict[Monomial, float] = {(): 1.0}
    imaginary: dict[Monomial, float] = {}
    for slot in product:
        re, im, re_factor, im_factor = variables.parts(slot)
        new_real, new_imaginary = _times(real, re, re_factor), _times(imaginary, re, re_factor)
        if im is not None:
            _add(new_real, _times(imaginary, im, -im_factor))
            _add(new_imaginary, _times(real, im, im_factor))
        real, imaginary = new_real, new_imaginary
    return {monomial: value for monomial, value in real.items() if value != 0.0}


def _times(polynomial: dict[Monomial, float], variable: int, factor: float) -> dict[Monomial, float]:
    return {tuple(sorted((*monomial, variable))): factor * value for monomial, value in polynomial.items()}


def _add(target: dict[Monomial, float], other: dict[Monomial, float]) -> None:
    for monomial, value in other.items():
        target[monomial] = target.get(monomial, 0.0) + value
