"""How much of a pool's space the picks reach: the share of its occupied bins along each principal component.

The score of Qi et al., doi:10.1038/s41524-024-01227-4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.sampling.reduction import Scores

BINS = 100
"""Equal bins between a pool's smallest and largest value of one component."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Bins of each component of a pool.

    Attributes
    ----------
    low, width : (m,) of the first bin
    occupied : (m, n_bins) whether the pool has a row there
    """

    low: NDArray[np.float32]
    width: NDArray[np.float32]
    occupied: NDArray[np.bool_]

    def places(self, scores: Scores) -> NDArray[np.int32]:
        """Return the bin (n, m) of each component of `scores` (n, m); what lies outside counts to the last bins."""
        last = self.occupied.shape[1] - 1
        return np.clip((scores - self.low) / self.width, 0, last).astype(np.int32)

    def reached(self, scores: Scores) -> NDArray[np.bool_]:
        """Return (m, n_bins) whether one of `scores` is there."""
        hit = np.zeros_like(self.occupied)
        for component, places in enumerate(self.places(scores).T):
            hit[component, places] = True
        return hit

    def coverage(self, picks: Scores) -> FloatArray:
        """Return (m,) the share of the pool's occupied bins that `picks` (n, m) reach, by component."""
        return np.asarray((self.reached(picks) & self.occupied).sum(axis=1) / self.occupied.sum(axis=1), dtype=float)


def make_grid(pool: Scores, *, bins: int = BINS) -> Grid:
    """Return the grid of a pool (N, m), at least one row."""
    low, high = pool.min(axis=0), pool.max(axis=0)
    width = np.where(high > low, (high - low) / np.float32(bins), np.float32(1.0))
    empty = Grid(low, width, np.zeros((pool.shape[1], bins), dtype=bool))
    return Grid(low, width, empty.reached(pool))


def coverage_score(pool: Scores, picks: Scores, *, bins: int = BINS) -> float:
    """Return the mean over components of the share of the pool's occupied bins that the picks reach, 0 to 1."""
    return float(make_grid(pool, bins=bins).coverage(picks).mean())
