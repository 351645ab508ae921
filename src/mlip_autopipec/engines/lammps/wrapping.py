"""Atoms inside of their periodic box for a moment: LAMMPS moves them there only when it builds its list anew."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from mlip_autopipec.core.interfaces import IntArray
from mlip_autopipec.engines.lammps.state import box_vectors

# LAMMPS' packing of the three counts of periods into one number (smallbig).
_BITS, _MASK = 10, 1023


@contextlib.contextmanager
def inside_box(lmp: Any) -> Iterator[None]:
    """Put the atoms that have left the box into it, their counts of periods with them, and afterwards back.

    A restart that has them outside cannot be read again.
    """
    count = lmp.extract_global("nlocal")
    x, image = (lmp.numpy.extract_atom(name)[:count] for name in ("x", "image"))
    box = box_vectors(lmp)
    periods = np.floor((x - np.array(lmp.extract_box()[0])) @ np.linalg.inv(box)).astype(np.int32)
    outside = np.flatnonzero(periods.any(axis=1))
    before = x[outside].copy(), image[outside].copy()
    x[outside] -= periods[outside] @ box
    image[outside] = _counted(image[outside], periods[outside])
    try:
        yield
    finally:
        x[outside], image[outside] = before


def _counted(image: IntArray, periods: IntArray) -> IntArray:
    """Return packed counts (n,) with `periods` (n, 3) more."""
    flat = image.reshape(-1)
    counts = [((flat >> (_BITS * axis)) & _MASK) + periods[:, axis] for axis in range(3)]
    packed = sum((count & _MASK) << (_BITS * axis) for axis, count in enumerate(counts))
    return np.asarray(packed, dtype=image.dtype).reshape(image.shape)
