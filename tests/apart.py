"""How far two frames are from each other."""

from __future__ import annotations

import numpy as np
from ase import Atoms


def apart(one: Atoms, two: Atoms) -> float:
    """Largest distance of positions, A, not counting whole periods."""
    difference = one.positions - two.positions
    periods = one.cell.array[one.pbc]
    if len(periods):
        difference -= np.round(np.linalg.lstsq(periods.T, difference.T, rcond=None)[0].T) @ periods
    return float(np.abs(difference).max())
