"""A frame in python-ace's own terms."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from mlip_autopipec.core.interfaces import Neighbourhood
from mlip_autopipec.engines.pacemaker.library import import_pyace


def environment(frame: Neighbourhood) -> Any:
    """Return a `pyace.ACEAtomicEnvironment`, without python-ace's own (slow, all-or-nothing periodic) neighbour list.

    Species indices are handed through: they must be those of the potential, that is alphabetical. A fresh one every
    time: resizing a used one crashes python-ace.
    """
    result = import_pyace().ACEAtomicEnvironment()
    result.n_atoms_real = frame.n_owned
    result.n_atoms_extended = len(frame.positions)
    # Plain lists are taken over twice as fast as arrays by the binding.
    result.x = frame.positions.tolist()
    result.species_type = frame.species.tolist()
    result.origins = frame.owners.tolist()
    neighbours, first = frame.neighbours.tolist(), frame.first.tolist()
    result.neighbour_list = [neighbours[a:b] for a, b in pairwise(first)]
    return result
