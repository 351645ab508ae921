"""trajectories and seeds -> picks: the few structures that cover what was explored, each kind of seed by its share.

Reads: frames and seeds, described environment by environment. Writes: nothing; the explorer-worker makes tasks in
`queue/dft/pending` of the picks. Next: `label`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import Descriptor, FloatArray
from mlip_autopipec.core.shares import divided
from mlip_autopipec.sampling.baselines import random_rows
from mlip_autopipec.sampling.clusters import birch_clusters
from mlip_autopipec.sampling.coverage import make_grid
from mlip_autopipec.sampling.direct import Indices, cover_quotas
from mlip_autopipec.sampling.reduction import Reduction, Scores, fit_reduction

# Clusters of environments per pick: a structure of a hundred atoms holds many kinds of environments.
_CLUSTERS_PER_PICK: Final = 8
_MOST_CLUSTERS: Final = 3000
# What is seldom matters most to errors, what is frequent to energies: between equal shares and those of the pool.
_EXPONENT: Final = 0.5
_BLOCK_ROWS: Final = 4000
_RANDOM_DRAWS: Final = 5


class Environments:
    """Rows of all environments of a pool, described anew on every pass, so that no more than a block is in memory.

    Parameters
    ----------
    pool
        Structures; iterated over several times.
    """

    def __init__(self, pool: Sequence[Atoms] | ReadAgain, descriptor: Descriptor) -> None:
        self._pool = pool
        self._descriptor = descriptor

    def __iter__(self) -> Iterator[FloatArray]:
        waiting: list[FloatArray] = []
        for atoms in self._pool:
            waiting.append(self._descriptor.environments(atoms))
            if sum(map(len, waiting)) >= _BLOCK_ROWS:
                yield np.concatenate(waiting)
                waiting = []
        if waiting:
            yield np.concatenate(waiting)


class ReadAgain:
    """Structures that are read from files on every pass. `__iter__` yields the same each time."""

    def __iter__(self) -> Iterator[Atoms]:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Picked:
    """What was chosen.

    Attributes
    ----------
    picks : (n,) structures of the pool, ascending
    means : (S, m) mean of each structure's environments, in weighted principal components
    coverage, random : share of the occupied bins of the environments that the picks reach, and as many random ones
    """

    picks: Indices
    means: Scores
    coverage: float
    random: float


def quotas(strata: Sequence[str], n_picks: int, shares: Mapping[str, float] | None) -> dict[str, int]:
    """Return how many structures each stratum gives; what one has not, the others give.

    Parameters
    ----------
    strata
        Of each structure of the pool.
    shares
        Weight of each stratum, 0 for those left out; None: by the square root of their sizes.
    """
    names, sizes = np.unique(np.asarray(strata), return_counts=True)
    there = dict(zip(names.tolist(), sizes.tolist(), strict=True))
    weights = {n: float(size) ** _EXPONENT if shares is None else shares.get(n, 0.0) for n, size in there.items()}
    weights = {name: weight for name, weight in weights.items() if weight > 0}
    counts = dict.fromkeys(there, 0)
    left = min(n_picks, sum(there[name] for name in weights))
    while left > 0:
        open_ones = {name: weight for name, weight in weights.items() if counts[name] < there[name]}
        given = divided(left, open_ones)
        for name, count in given.items():
            counts[name] = min(there[name], counts[name] + count)
        left = min(n_picks, sum(there[name] for name in weights)) - sum(counts.values())
    return counts


def select_structures(
    pool: Sequence[Atoms] | ReadAgain,
    descriptor: Descriptor,
    *,
    sizes: Sequence[int],
    strata: Sequence[str],
    n_picks: int,
    shares: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Picked:
    """Pick structures whose environments cover the pool's, each stratum by its share.

    All environments are reduced and clustered as DIRECT does; then structures are taken that together hold as many
    clusters as possible, from strata that still have to give.

    Parameters
    ----------
    sizes
        Number of atoms of each structure.
    strata
        Name of the stratum of each structure.

    Raises
    ------
    DataError
        There is nothing to choose from, or a structure cannot be described.
    """
    if n_picks < 1 or not len(sizes):
        raise DataError(f"select: {n_picks} of {len(sizes)} structures", "give structures, and a number above 0")
    blocks = Environments(pool, descriptor)
    reduction: Reduction = fit_reduction(blocks)
    scores = reduction.project_all(blocks)
    owners = np.repeat(np.arange(len(sizes)), sizes)
    if len(owners) != len(scores):
        raise DataError(f"select: {len(scores)} environments of {len(owners)} atoms", "give the sizes of the pool")
    limit = min(_MOST_CLUSTERS, len(scores))
    clusters = birch_clusters(scores, n_clusters=max(2, min(_CLUSTERS_PER_PICK * n_picks, limit)), seed=seed)
    names = sorted(set(strata))
    wanted = quotas(strata, n_picks, shares)
    tags = np.array([names.index(name) for name in strata])
    picks = np.sort(
        cover_quotas(clusters.labels, owners, tags, quotas=np.array([wanted[name] for name in names], dtype=np.int64))
    )
    counts = np.asarray(sizes, dtype=np.float32)[:, None]
    means = np.stack([np.bincount(owners, weights=column, minlength=len(sizes)) for column in scores.T], 1) / counts
    grid = make_grid(scores)
    draws = [random_rows(len(sizes), n_picks=len(picks), seed=seed + k) for k in range(_RANDOM_DRAWS)]
    found = [float(grid.coverage(scores[np.isin(owners, chosen)]).mean()) for chosen in (picks, *draws)]
    return Picked(picks, means.astype(np.float32), found[0], float(np.mean(found[1:])))
