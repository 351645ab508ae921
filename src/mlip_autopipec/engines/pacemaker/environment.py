"""A frame in python-ace's own terms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from pyace import ACEAtomicEnvironment

from mlip_autopipec.core.interfaces import Neighbourhood


def environment(frame: Neighbourhood) -> ACEAtomicEnvironment:
    """Fill python-ace's environment from `frame`, without python-ace's own (slow, all-or-nothing periodic) list.

    Species indices are handed through: they must be those of the potential, that is alphabetical.
    """
    result = ACEAtomicEnvironment()
    result.n_atoms_real = frame.n_owned
    result.n_atoms_extended = len(frame.positions)
    # Plain lists are taken over twice as fast as arrays by the binding.
    result.x = frame.positions.tolist()
    result.species_type = frame.species.tolist()
    result.origins = frame.owners.tolist()
    neighbours = np.asarray(frame.neighbours).tolist()
    first = np.asarray(frame.first).tolist()
    result.neighbour_list = [neighbours[a:b] for a, b in pairwise(first)]
    return result
