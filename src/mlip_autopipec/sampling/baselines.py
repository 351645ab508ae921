"""What DIRECT is compared with: random rows, and rows that are farthest from one another."""

from __future__ import annotations

import numpy as np

from mlip_autopipec.sampling.direct import Indices
from mlip_autopipec.sampling.reduction import Scores


def random_rows(n_rows: int, *, n_picks: int, seed: int = 0) -> Indices:
    """Return `n_picks` different rows of `n_rows`, ascending; all if there are no more."""
    rng = np.random.default_rng(seed)
    return np.sort(rng.choice(n_rows, min(n_picks, n_rows), replace=False)).astype(np.int64)


def farthest_rows(scores: Scores, *, n_picks: int) -> Indices:
    """Return `n_picks` rows of `scores` (N, m), each the farthest from those before it, in that order.

    The first is the farthest from the mean (Gonzalez 1985, doi:10.1016/0304-3975(85)90224-5). Rows that equal one that
    was picked are not picked.
    """
    squares = np.einsum("nm,nm->n", scores, scores)

    def distances(point: Scores) -> np.ndarray:
        return squares - 2.0 * (scores @ point) + point @ point

    nearest = distances(scores.mean(axis=0))
    picked = [int(nearest.argmax())]
    nearest = distances(scores[picked[0]])
    # Rounding of single precision makes equal rows look apart.
    least = 1e-6 * float(squares.max(initial=0.0))
    while len(picked) < min(n_picks, len(scores)):
        nearest[picked[-1]] = -1.0
        best = int(nearest.argmax())
        if nearest[best] <= least:
            break
        picked.append(best)
        np.minimum(nearest, distances(scores[best]), out=nearest)
    return np.array(picked, dtype=np.int64)
