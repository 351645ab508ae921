"""Rows of many structures, of which only those in use need be in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mlip_autopipec.ace.maxvol import FloatArray, IndexArray


class RowBlocks:
    """Blocks of rows, each made when it is asked for; iterated over again and again.

    Parameters
    ----------
    sizes
        Rows in each block.
    make
        Gives the block (sizes[place], k) of a place.
    """

    def __init__(self, sizes: Sequence[int], make: Callable[[int], FloatArray]) -> None:
        self._ends = np.cumsum(np.asarray(sizes, dtype=np.int64))
        self._make = make

    @property
    def n_rows(self) -> int:
        """How many rows there are in all."""
        return int(self._ends[-1]) if len(self._ends) else 0

    def __iter__(self) -> Iterator[FloatArray]:
        return (self._make(place) for place in range(len(self._ends)))

    def at(self, numbers: IndexArray) -> FloatArray:
        """Return the rows of these numbers (m,), in ascending order, as (m, k); reads only the blocks they are in."""
        places = np.searchsorted(self._ends, numbers, side="right")
        found = []
        for place in np.unique(places):
            block = self._make(int(place))
            first = self._ends[place] - len(block)
            found.append(block[numbers[places == place] - first])
        return np.concatenate(found)
