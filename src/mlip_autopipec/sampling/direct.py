"""DIRECT: dimensionality reduction, encoded clusters, stratified sampling (Qi et al., doi:10.1038/s41524-024-01227-4).

Descriptors are normalised, reduced (`reduction`) and clustered (`clusters`); some rows of each cluster are picked. What
a row is, an environment or a structure, only the caller knows; for environments, `cover_structures` says which
structures hold the clusters that matter, since a label is of a structure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.sampling.clusters import Clusters, Labels, birch_clusters
from mlip_autopipec.sampling.coverage import make_grid
from mlip_autopipec.sampling.reduction import Blocks, Reduction, Scores, fit_reduction

Indices = NDArray[np.int64]
RULES = ("coverage", "centre", "random")


@dataclass(frozen=True, eq=False)
class Selection:
    """What DIRECT chose, and from what.

    Attributes
    ----------
    picks : (n,) rows, ascending
    scores : (N, m) weighted principal components of the pool
    reduction, clusters : how it got there
    coverage : (m,) by component, see `coverage`
    """

    picks: Indices
    scores: Scores
    reduction: Reduction
    clusters: Clusters
    coverage: NDArray[np.float64]


def direct(
    blocks: Blocks,
    *,
    n_picks: int,
    per_cluster: int = 1,
    rule: str = "coverage",
    explained: float | None = None,
    weighted: bool = True,
    seed: int = 0,
) -> Selection:
    """Pick rows that cover a pool of descriptors.

    Parameters
    ----------
    blocks
        (b, D) rows of descriptors, read twice; no more than one block is held, and 4 m bytes per row, m components.
    n_picks
        How many; all rows if there are no more.
    per_cluster
        Picks of each cluster; the number of clusters follows.
    rule, seed
        As in `pick_rows`.
    explained, weighted
        As in `fit_reduction`.

    Raises
    ------
    DataError
        Nothing to choose from, a number is not finite, or the blocks cannot be read twice.
    """
    reduction = fit_reduction(blocks, explained=explained, weighted=weighted)
    scores = reduction.project_all(blocks)
    clusters = birch_clusters(scores, n_clusters=max(1, min(n_picks, len(scores)) // per_cluster), seed=seed)
    picks = pick_rows(scores, clusters, n_picks=n_picks, rule=rule, seed=seed)
    return Selection(picks, scores, reduction, clusters, make_grid(scores).coverage(scores[picks]))


def pick_rows(scores: Scores, clusters: Clusters, *, n_picks: int, rule: str = "coverage", seed: int = 0) -> Indices:
    """Return `n_picks` rows, the same number of each cluster where there are enough, ascending.

    Parameters
    ----------
    rule
        "coverage": of each cluster the row that reaches most bins of the pool (see `coverage`) that no pick has reached
        yet, the nearest to the centre among equals; rare clusters choose first.
        "centre": k rows of each at equal steps in rank of distance from the centre, from the nearest on (Qi et al.).
        "random": any.
    seed
        For "random".
    """
    if rule not in RULES:
        raise DataError(f"rule must be one of {', '.join(RULES)}, found {rule!r}")
    if n_picks < 1:
        raise DataError(f"n_picks must be at least 1, found {n_picks}")
    if n_picks >= len(scores):
        return np.arange(len(scores))
    distances = clusters.distances(scores)
    order = np.lexsort((distances, clusters.labels))
    members = np.split(order, np.cumsum(np.bincount(clusters.labels))[:-1])
    counts = _shares(np.array([len(rows) for rows in members]), n_picks)
    if rule == "coverage":
        picked = _cover_bins(scores, distances, members, counts)
    elif rule == "centre":
        picked = [rows[np.linspace(0, len(rows) - 1, k).astype(int)] for rows, k in zip(members, counts, strict=True)]
    else:
        rng = np.random.default_rng(seed)
        picked = [rng.choice(rows, k, replace=False) for rows, k in zip(members, counts, strict=True)]
    return np.sort(np.concatenate(picked))


def _shares(sizes: NDArray[np.int64], n_picks: int) -> NDArray[np.int64]:
    """Return how many each cluster gives: all the same, as far as they have them; the rest from the largest."""
    counts = np.zeros_like(sizes)
    while (missing := n_picks - int(counts.sum())) > 0:
        open_ones = np.flatnonzero(counts < sizes)
        if missing < len(open_ones):
            open_ones = open_ones[np.argsort(-sizes[open_ones], kind="stable")[:missing]]
        counts[open_ones] += 1
    return counts


def _cover_bins(
    scores: Scores, distances: NDArray[np.float32], members: list[Indices], counts: NDArray[np.int64]
) -> list[Indices]:
    grid = make_grid(scores)
    free = grid.occupied.copy()
    components = np.arange(scores.shape[1])
    picked = []
    for cluster in np.argsort([len(rows) for rows in members], kind="stable"):
        rows, taken = members[cluster], np.empty(0, dtype=np.int64)
        places = grid.places(scores[rows])
        far = 2.0 * float(distances[rows].max()) + 1e-30
        for _ in range(counts[cluster]):
            # Gains are whole numbers and the distance adds less than one half: it decides among equals.
            value = free[components, places].sum(axis=1) - distances[rows] / far
            value[taken] = -1.0
            best = int(value.argmax())
            taken = np.append(taken, best)
            free[components, places[best]] = False
        picked.append(rows[taken])
    return picked


def cover_structures(labels: Labels, owners: NDArray[np.int64], *, n_structures: int) -> Indices:
    """Return structures that together hold as many clusters of environments as possible, best first.

    Greedy: each pick adds the most clusters that no pick has yet; once all are held, that hold them once more, and so
    on. (Greedy set cover is within ln n of the best: Johnson 1974, doi:10.1016/S0022-0000(74)80044-9.)

    Parameters
    ----------
    labels
        (N,) cluster of each environment.
    owners
        (N,) structure of each environment, 0 to S - 1.
    n_structures
        How many; all if there are no more.
    """
    n = int(owners.max(initial=-1)) + 1
    return cover_quotas(labels, owners, np.zeros(n, dtype=np.int64), quotas=np.array([n_structures]))


def cover_quotas(
    labels: Labels, owners: NDArray[np.int64], strata: NDArray[np.int64], *, quotas: NDArray[np.int64]
) -> Indices:
    """Return structures as `cover_structures` does, no more of each stratum than its quota.

    Parameters
    ----------
    strata
        (S,) stratum of each structure, 0 to q - 1.
    quotas
        (q,) how many structures of each stratum.
    """
    n_labels = int(labels.max(initial=-1)) + 1
    pairs = np.unique(owners * np.int64(n_labels) + labels)
    structure, cluster = pairs // n_labels, pairs % n_labels
    n, left = len(strata), quotas.copy()
    untaken = np.bincount(owners, minlength=n) > 0
    picked: list[int] = []
    held = np.zeros(n_labels, dtype=np.int64)
    level = 1
    while (available := untaken & (left[strata] > 0)).any():
        gain = np.bincount(structure[held[cluster] < level], minlength=n) * available
        best = int(gain.argmax())
        if gain[best] == 0:
            level += 1
            continue
        picked.append(best)
        untaken[best] = False
        left[strata[best]] -= 1
        held[cluster[structure == best]] += 1
    return np.array(picked, dtype=np.int64)
