"""Arrays that begin on a cache line, on huge pages where they are large."""

from __future__ import annotations

from typing import Any

import numpy as np

_HUGE_PAGE, _LARGE = 1 << 21, 1 << 18


def aligned_zeros(n: int, dtype: type = float) -> Any:
    """Return a zero array that begins on a cache line, or on a huge page if it is larger than some hundred kB.

    numpy asks the kernel for huge pages from 4 MiB on; tables that are read at random miss the page cache otherwise.
    """
    size = np.dtype(dtype).itemsize
    large = n * size > _LARGE
    boundary = _HUGE_PAGE if large else 64
    raw: Any = np.zeros((max(n * size, 2 * _HUGE_PAGE) if large else n * size) // size + boundary // size, dtype=dtype)
    offset = (-raw.ctypes.data % boundary) // size
    return raw[offset : offset + n]
