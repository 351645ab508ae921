"""Second step of DIRECT: the pool in clusters, by BIRCH.

Zhang, Ramakrishnan & Livny 1996, doi:10.1145/233269.233324, as scikit-learn has it. Its tree keeps one centre for all
rows within `threshold`; where a number of clusters is wanted, the centres are merged to as many by Ward's method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import AgglomerativeClustering, Birch
from sklearn.metrics import pairwise_distances_argmin, pairwise_distances_argmin_min

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.sampling.reduction import Scores

Labels = NDArray[np.int32]
# Rows in one call of scikit-learn, whose temporaries grow with it.
_BATCH = 20_000
_SAMPLE = 5_000
"""Rows from which the threshold is guessed."""
# Centres per wanted cluster, so that merging has something to choose from; and how many Ward's method can take.
_WANTED, _MOST = 2.0, 3000
_TRIES = 30


@dataclass(frozen=True, eq=False)
class Clusters:
    """A pool in clusters.

    Attributes
    ----------
    labels : (N,) cluster of each row, 0 to n - 1; no cluster is empty
    centres : (n, m) mean of each cluster's rows
    threshold : of BIRCH
    """

    labels: Labels
    centres: Scores
    threshold: float

    @property
    def n(self) -> int:
        return len(self.centres)

    def distances(self, scores: Scores) -> NDArray[np.float32]:
        """Return (N,) the distance of each row from its cluster's centre."""
        return np.concatenate(
            [
                np.linalg.norm(scores[k : k + _BATCH] - self.centres[self.labels[k : k + _BATCH]], axis=1)
                for k in range(0, len(scores), _BATCH)
            ]
        )


def birch_clusters(
    scores: Scores, *, n_clusters: int | None = None, threshold: float | None = None, seed: int = 0
) -> Clusters:
    """Cluster a pool.

    Parameters
    ----------
    scores
        (N, m).
    n_clusters
        Number of clusters; fewer if there are not as many different rows. None: as many as `threshold` gives.
    threshold
        Radius of BIRCH's finest clusters, in units of the scores; None: found so that `n_clusters` can be made.
    seed
        Of the sample from which the threshold is guessed.

    Raises
    ------
    DataError
        Neither a number of clusters nor a threshold is given, or one is not positive.
    """
    if (n_clusters is not None and n_clusters < 1) or (threshold is not None and threshold <= 0):
        raise DataError(f"clusters: n_clusters {n_clusters} and threshold {threshold} must be positive")
    if n_clusters is None:
        if threshold is None:
            raise DataError("clusters: neither n_clusters nor threshold is given", "give one of them")
        return _assign(scores, _centres(scores, threshold), None, threshold)
    radius = threshold or _guess_threshold(scores, n_clusters, seed)
    most = max(_MOST, 2 * n_clusters)
    centres = _centres(scores, radius, most)
    for _ in range(_TRIES):
        if n_clusters <= len(centres) <= most or radius <= _smallest(scores):
            break
        radius *= 0.7 if len(centres) < n_clusters else 1.4
        centres = _centres(scores, radius, most)
    if len(centres) > most:
        centres = _centres(scores, radius)
    return _assign(scores, centres, n_clusters, radius)


def _smallest(scores: Scores) -> float:
    """Return the radius below which single precision tells rows apart no longer."""
    return float(1e-6 * np.abs(scores[:_SAMPLE]).max(initial=1e-30))


def _guess_threshold(scores: Scores, n_clusters: int, seed: int) -> float:
    """Return a threshold that gives about `_WANTED` centres per cluster in a sample."""
    rng = np.random.default_rng(seed)
    sample = scores if len(scores) <= _SAMPLE else scores[np.sort(rng.choice(len(scores), _SAMPLE, replace=False))]
    wanted = min(_WANTED * n_clusters, 0.7 * len(sample))
    low, high = _smallest(scores), float(np.linalg.norm(np.ptp(sample, axis=0))) + _smallest(scores)
    for _ in range(_TRIES):
        middle = float(np.sqrt(low * high))
        found = len(_centres(sample, middle))
        if wanted <= found <= 1.3 * wanted or high / low < 1.01:
            return middle
        low, high = (low, middle) if found < wanted else (middle, high)
    return low


def _centres(scores: Scores, threshold: float, most: int | None = None) -> Scores:
    """Return the centres of BIRCH's finest clusters; once they are more than `most`, those so far.

    Rows within `threshold` of a centre that is there already are not fed to the tree, which takes its time with each.
    """
    tree = Birch(threshold=threshold, branching_factor=50, n_clusters=None)
    for k in range(0, len(scores), _BATCH):
        rows = scores[k : k + _BATCH]
        if k:
            centres = np.asarray(tree.subcluster_centers_, dtype=np.float32)
            rows = rows[pairwise_distances_argmin_min(rows, centres)[1] > threshold]
        if len(rows):
            tree.partial_fit(rows)
        if most is not None and len(tree.subcluster_centers_) > most:
            break
    return np.asarray(tree.subcluster_centers_, dtype=np.float32)


def _assign(scores: Scores, centres: Scores, n_clusters: int | None, threshold: float) -> Clusters:
    """Give every row to the cluster of its nearest centre."""
    merged = np.arange(len(centres))
    if n_clusters is not None and len(centres) > n_clusters:
        merged = AgglomerativeClustering(n_clusters=n_clusters).fit_predict(centres)
    nearest = np.concatenate(
        [pairwise_distances_argmin(scores[k : k + _BATCH], centres) for k in range(0, len(scores), _BATCH)]
    )
    # A centre that moved while the tree grew may be nobody's nearest.
    _, labels = np.unique(merged[nearest], return_inverse=True)
    sizes = np.bincount(labels)
    sums = [np.bincount(labels, weights=column) for column in scores.T]
    return Clusters(labels.astype(np.int32), (np.stack(sums, 1) / sizes[:, None]).astype(np.float32), threshold)
