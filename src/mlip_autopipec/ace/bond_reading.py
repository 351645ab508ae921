"""Checks that both file formats make on the radial part of a bond."""

from __future__ import annotations

import numpy as np

from mlip_autopipec.ace.node import Node
from mlip_autopipec.ace.radial import KINDS, is_known
from mlip_autopipec.ace.records import FloatArray


def positive(node: Node) -> float:
    """Return a number above zero."""
    value = node.real()
    if value <= 0:
        raise node.error(f"must be positive, found {value}")
    return value


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
