"""One sampler on one pool in a process of its own: time, peak memory, coverage."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pool import Pool

from mlip_autopipec.sampling.baselines import farthest_rows, random_rows
from mlip_autopipec.sampling.clusters import birch_clusters
from mlip_autopipec.sampling.coverage import coverage_score
from mlip_autopipec.sampling.direct import pick_rows
from mlip_autopipec.sampling.reduction import fit_reduction

_SEEDS = 10


def ours(n_rows: int, sizes: list[int]) -> dict[str, Any]:
    """DIRECT as it is in the house, everything streamed; random and farthest rows of the same pool beside it."""
    pool, marks = Pool(n_rows, threads=1), [time.perf_counter()]
    reduction = fit_reduction(pool)
    _mark(marks, "moments")
    scores = reduction.project_all(pool)
    _mark(marks, "project")
    coverage: dict[str, list[float]] = {"coverage": [], "centre": [], "random": [], "farthest": []}
    farthest = farthest_rows(scores, n_picks=max(sizes))
    _mark(marks, "farthest")
    found = [birch_clusters(scores, n_clusters=n) for n in sizes]
    _mark(marks, "cluster")
    for n, clusters in zip(sizes, found, strict=True):
        for rule in ("coverage", "centre"):
            coverage[rule].append(coverage_score(scores, scores[pick_rows(scores, clusters, n_picks=n, rule=rule)]))
        draws = [coverage_score(scores, scores[random_rows(n_rows, n_picks=n, seed=s)]) for s in range(_SEEDS)]
        coverage["random"].append(float(np.mean(draws)))
        coverage["farthest"].append(coverage_score(scores, scores[farthest[:n]]))
    marks.append(time.perf_counter())
    names = ("describe, moments", "describe, project", "farthest", "cluster", "pick, judge")
    stages = dict(zip(names, np.diff(marks).tolist(), strict=True))
    return {"coverage": coverage, "stages_s": stages, "components": scores.shape[1]}


def _mark(marks: list[float], stage: str) -> None:
    marks.append(time.perf_counter())
    print(f"{stage}: {marks[-1] - marks[-2]:.1f} s", file=sys.stderr, flush=True)


def maml(n_rows: int, sizes: list[int]) -> dict[str, Any]:
    """maml's sampler without its encoder: all rows in memory."""
    sys.path.append(sys.argv[4])
    from maml.sampling.clustering import BirchClustering
    from maml.sampling.pca import PrincipalComponentAnalysis
    from maml.sampling.stratified_sampling import SelectKFromClusters
    from sklearn.preprocessing import StandardScaler

    logging.disable(logging.INFO)
    pool = Pool(n_rows, threads=1)
    rows = np.concatenate(list(pool))
    scores = fit_reduction(pool).project_all(pool)
    begin = time.perf_counter()
    normalised = StandardScaler().fit_transform(rows)
    components = PrincipalComponentAnalysis().fit(normalised).transform(normalised)
    marks, coverage = [begin, time.perf_counter()], []
    for n in sizes:
        chosen = SelectKFromClusters(k=1).transform(BirchClustering(n=n).transform(components))["selected_indexes"]
        if len(chosen) != n:
            raise RuntimeError(f"maml picked {len(chosen)} rows, not {n}")
        coverage.append(coverage_score(scores, scores[chosen]))
        marks.append(time.perf_counter())
    stages = dict(zip(("reduce", *(f"cluster, pick {n}" for n in sizes)), np.diff(marks).tolist(), strict=True))
    return {"coverage": {"maml": coverage}, "stages_s": stages, "components": components.shape[1]}


TASKS: dict[str, Callable[[int, list[int]], dict[str, Any]]] = {task.__name__: task for task in (ours, maml)}


def main() -> None:
    """Arguments: sampler, number of rows, numbers of picks with commas, folder with maml; prints JSON."""
    n_rows, sizes = int(sys.argv[2]), [int(n) for n in sys.argv[3].split(",")]
    begin = time.perf_counter()
    result = TASKS[sys.argv[1]](n_rows, sizes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"sampler": sys.argv[1], "rows": n_rows, "sizes": sizes, "seconds": time.perf_counter() - begin,
                      "cpu_s": time.process_time(), "peak_gib": peak, **result}))  # fmt: skip


if __name__ == "__main__":
    main()
