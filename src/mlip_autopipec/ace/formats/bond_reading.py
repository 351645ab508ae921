"""Checks that both file formats make on the radial part of a bond."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase.data import atomic_numbers

from mlip_autopipec.ace.formats.node import Node
from mlip_autopipec.ace.radial import KINDS, is_known
from mlip_autopipec.ace.records import INNER_CUTOFF_TYPES, Bond, FloatArray

LARGEST_CUTOFF = 100.0
_LARGEST_L, _MOST_RADIAL_FUNCTIONS, _MOST_BINS = 30, 1000, 1_000_000
_STEEPEST = 500.0


def positive(node: Node) -> float:
    """Return a number above zero."""
    value = node.real()
    if value <= 0:
        raise node.error(f"must be positive, found {value}")
    return value


def not_negative(node: Node) -> float:
    """Return zero or a number above it."""
    value = node.real()
    if value < 0:
        raise node.error(f"must not be negative, found {value}")
    return value


def cutoff(node: Node) -> float:
    """Return a cutoff, A."""
    value = positive(node)
    if value > LARGEST_CUTOFF:
        raise node.error(f"must be at most {LARGEST_CUTOFF:g} A, found {value}")
    return value


def radial_shape(nradmax: Node, lmax: Node, nradbase: Node) -> tuple[int, int, int]:
    """Return (nradmax, lmax + 1, nradbase)."""
    return (
        nradmax.integer(high=_MOST_RADIAL_FUNCTIONS),
        lmax.integer(high=_LARGEST_L) + 1,
        nradbase.integer(high=_MOST_RADIAL_FUNCTIONS),
    )


def radial_parameters(node: Node, kind: str) -> tuple[float, ...]:
    """Return the parameters of a kind of radial basis; the first, lambda, must suit the kind."""
    values = tuple(node.reals())
    if kind in ("ChebExpCos", "ChebPow"):
        if not values:
            raise node.error(f"{kind} needs one number, found none")
        if abs(values[0]) > _STEEPEST:
            raise node.error(f"must be at most {_STEEPEST:g}, found {values[0]}")
        if values[0] == 0.0 or (kind == "ChebPow" and values[0] < 0.0):
            raise node.error(f"{kind} needs a number {'above' if kind == 'ChebPow' else 'other than'} 0")
    return values


def embedding_parameters(node: Node, ndensity: int) -> tuple[float, ...]:
    """Return (w_1, m_1, w_2, m_2, ...), exponents m above 0."""
    values = tuple(node.reals())
    if len(values) != 2 * ndensity:
        raise node.error(f"expected {2 * ndensity} numbers for {ndensity} densities, found {len(values)}")
    for exponent in values[1::2]:
        if not 0.0 < exponent <= 10.0:
            raise node.error(f"the exponent of a density must be above 0 and at most 10, found {exponent}")
    return values


def bonds_problem(bonds: Mapping[tuple[str, str], Bond], spline_step: float) -> tuple[tuple[str, str], str, str] | None:
    """Return (pair, what about it, why) if the bonds of a file cannot be evaluated together, or None."""
    kinds = {bond.inner_cutoff_type for bond in bonds.values()}
    for pair, bond in bonds.items():
        if len(kinds) > 1:
            return pair, "inner cutoff", f"all pairs need the same inner_cutoff_type, found {', '.join(sorted(kinds))}"
        if not 1.0 <= bond.rcut / spline_step <= _MOST_BINS:
            return (
                pair,
                "cutoff",
                f"{bond.rcut} A gives {bond.rcut / spline_step:.3g} spline bins, not 1 to {_MOST_BINS}",
            )
        if bond.inner_cutoff_type == "zbl" and bond.prehc != 0.0:
            if bond.dcut <= 0.0:
                return pair, "dcut", "the repulsion zbl needs a dcut above 0"
            unknown = [element for element in pair if atomic_numbers.get(element, 0) == 0]
            if unknown:
                return pair, "core repulsion", f"zbl needs nuclear charges, and {unknown[0]} is no chemical element"
    return None


def inner_cutoff(node: Node, r_in: str, delta_in: str) -> tuple[float, float, str]:
    """Return (r_in, delta_in, kind) of a bond, whose keys for the lengths (A) these are; all may be left out."""
    lengths = [node.find(key) for key in (r_in, delta_in)]
    kind = node.find("inner_cutoff_type")
    begin, width = (not_negative(length) if length else 0.0 for length in lengths)
    return begin, width, kind.choice(INNER_CUTOFF_TYPES) if kind else "density"


def slot_problem(bond: Bond, rank: int, n: int, angular: int) -> tuple[str, str] | None:
    """Return ("n" or "l", why) if a bond has no radial function for this place in a function of `rank`, or None."""
    largest = bond.nradbase if rank == 1 else bond.nradmax
    if not 1 <= n <= largest:
        return "n", f"{n} is not among the radial functions 1 to {largest}"
    if angular > bond.lmax:
        return "l", f"{angular} is above the {bond.lmax}"
    return None


def radial_kind(node: Node) -> str:
    """Return the name of a radial basis that we can evaluate."""
    name = node.text()
    if not is_known(name):
        raise node.error(f"unknown radial basis {name!r}, known are {', '.join(KINDS)}")
    return name


def radial_coefficients(node: Node, shape: tuple[int, int, int]) -> FloatArray:
    """Return radcoefficients[n][l][k] of `shape`; a flat list has k slowest and l fastest (an old form)."""
    nradmax, nl, nradbase = shape
    try:
        values = np.array(node.value if node.value not in (None, "") else [], dtype=float)
    except (TypeError, ValueError) as error:
        raise node.error(f"expected numbers in lists of equal length: {error}") from None
    if not np.isfinite(values).all():
        raise node.error("has a number that is not finite")
    if values.size == 0 and 0 in shape:
        return np.zeros(shape)
    if values.ndim == 1 and values.size == nradmax * nl * nradbase:
        return np.ascontiguousarray(values.reshape(nradbase, nradmax, nl).transpose(1, 2, 0))
    if values.shape != shape:
        raise node.error(f"expected [nradmax][lmax + 1][nradbase] = {list(shape)} numbers, found {list(values.shape)}")
    return values
