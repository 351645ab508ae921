"""DIRECT: clusters, picks, coverage, structures."""

from __future__ import annotations

import numpy as np
import pytest

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.sampling.baselines import farthest_rows, random_rows
from mlip_autopipec.sampling.clusters import birch_clusters
from mlip_autopipec.sampling.coverage import coverage_score, make_grid
from mlip_autopipec.sampling.direct import RULES, cover_structures, direct, pick_rows

CENTRES = np.array([[0, 0], [5, 0], [0, 5], [9, 9], [-6, 3]], dtype=float)
SIZES = (600, 300, 80, 15, 5)


@pytest.fixture(scope="module")
def scores() -> np.ndarray:
    """Five clouds, the last ones rare."""
    rng = np.random.default_rng(0)
    clouds = [c + 0.3 * rng.normal(size=(n, 2)) for c, n in zip(CENTRES, SIZES, strict=True)]
    return np.concatenate(clouds).astype(np.float32)[rng.permutation(sum(SIZES))]


@pytest.fixture(scope="module")
def descriptors(scores) -> list[np.ndarray]:
    mixing = np.random.default_rng(5).normal(size=(2, 20))
    rows = scores @ mixing + 0.01 * np.random.default_rng(6).normal(size=(len(scores), 20))
    return [rows[k : k + 150] for k in range(0, len(rows), 150)]


def test_clusters_are_the_clouds(scores):
    clusters = birch_clusters(scores, n_clusters=5)
    assert clusters.n == 5
    assert sorted(np.bincount(clusters.labels)) == sorted(SIZES)
    nearest = np.linalg.norm(clusters.centres[:, None] - CENTRES, axis=2).min(axis=1)
    assert nearest.max() < 0.5
    assert clusters.distances(scores).max() < 1.5


def test_a_threshold_alone_decides_the_number(scores):
    fine, coarse = (birch_clusters(scores, threshold=t) for t in (0.2, 1.0))
    assert fine.n > coarse.n >= 5
    assert np.array_equal(np.unique(coarse.labels), np.arange(coarse.n))


def test_equal_rows_make_no_clusters_of_their_own():
    scores = np.repeat(np.array([[0, 0], [1, 0], [0, 3]], dtype=np.float32), 20, axis=0)
    clusters = birch_clusters(scores, n_clusters=10)
    assert clusters.n == 3
    picks = pick_rows(scores, clusters, n_picks=10)
    assert len(set(picks)) == 10
    assert len(np.unique(scores[picks], axis=0)) == 3


@pytest.mark.parametrize("rule", RULES)
def test_every_cluster_gives_alike(scores, rule):
    clusters = birch_clusters(scores, n_clusters=5)
    picks = pick_rows(scores, clusters, n_picks=15, rule=rule)
    assert len(set(picks)) == 15
    assert np.bincount(clusters.labels[picks]).tolist() == [3] * 5
    # The rare clouds have 5 and 15: what they lack comes from the largest.
    many = pick_rows(scores, clusters, n_picks=60, rule=rule)
    counts = dict(zip(np.bincount(clusters.labels).tolist(), np.bincount(clusters.labels[many]).tolist(), strict=True))
    assert counts == {600: 14, 300: 14, 80: 14, 15: 13, 5: 5}
    assert np.array_equal(pick_rows(scores, clusters, n_picks=5000, rule=rule), np.arange(len(scores)))


def test_centre_means_nearest_first(scores):
    clusters = birch_clusters(scores, n_clusters=5)
    picks = pick_rows(scores, clusters, n_picks=5, rule="centre")
    distances = clusters.distances(scores)
    assert all(distances[pick] == distances[clusters.labels == clusters.labels[pick]].min() for pick in picks)


def test_coverage_counts_the_bins_of_the_pool():
    pool = np.array([[0, 0], [1, 0], [2, 0], [3, 10]], dtype=np.float32)
    assert coverage_score(pool, pool, bins=4) == 1.0
    # Two of four bins along the first component, one of the two that are occupied along the second.
    assert make_grid(pool, bins=4).coverage(pool[[0, 2]]).tolist() == [0.5, 0.5]
    assert coverage_score(pool, pool[[0, 3]], bins=4) == pytest.approx(0.75)
    # Outside of the pool is the last bin of it, and a component without width has one bin.
    assert make_grid(pool[:3], bins=4).coverage(np.array([[99.0, 0.0]], dtype=np.float32)).tolist() == pytest.approx(
        [1 / 3, 1.0]
    )


def test_direct_covers_more_than_random_and_finds_the_rare(descriptors, scores):
    selection = direct(descriptors, n_picks=30)
    assert len(set(selection.picks)) == 30
    assert np.array_equal(direct(descriptors, n_picks=30).picks, selection.picks)
    assert selection.coverage.mean() == pytest.approx(
        coverage_score(selection.scores, selection.scores[selection.picks])
    )
    lucky = [
        coverage_score(selection.scores, selection.scores[random_rows(1000, n_picks=30, seed=s)]) for s in range(9)
    ]
    assert selection.coverage.mean() > 1.15 * max(lucky)
    clouds = np.linalg.norm(scores[selection.picks][:, None] - CENTRES, axis=2).argmin(axis=1)
    assert set(clouds) == {0, 1, 2, 3, 4}


def test_the_coverage_rule_reaches_more_bins_than_the_centres(descriptors):
    found = {rule: direct(descriptors, n_picks=30, rule=rule).coverage.mean() for rule in RULES}
    assert found["coverage"] > found["centre"]
    assert found["coverage"] > found["random"]


def test_several_picks_of_each_cluster(descriptors):
    selection = direct(descriptors, n_picks=30, per_cluster=3)
    assert selection.clusters.n == 10
    assert len(selection.picks) == 30


def test_structures_that_hold_most_clusters_come_first():
    #          structure 0: clusters 0 1; 1: clusters 1 2 3; 2: cluster 0; 3: clusters 4 (twice)
    owners = np.array([0, 0, 1, 1, 1, 2, 3, 3])
    labels = np.array([0, 1, 1, 2, 3, 0, 4, 4], dtype=np.int32)
    assert cover_structures(labels, owners, n_structures=3).tolist() == [1, 0, 3]
    assert cover_structures(labels, owners, n_structures=1).tolist() == [1]
    assert sorted(cover_structures(labels, owners, n_structures=9).tolist()) == [0, 1, 2, 3]


def test_farthest_rows_spread_and_stop_at_copies():
    line = np.repeat(np.arange(11, dtype=np.float32)[:, None], 3, axis=0)
    picks = farthest_rows(line, n_picks=3)
    assert sorted(line[picks, 0].tolist()) == [0.0, 5.0, 10.0]
    assert len(farthest_rows(line, n_picks=33)) == 11


def test_nonsense_is_refused(descriptors, scores):
    clusters = birch_clusters(scores, n_clusters=5)
    with pytest.raises(DataError, match="rule"):
        pick_rows(scores, clusters, n_picks=5, rule="best")
    with pytest.raises(DataError, match="n_picks"):
        direct(descriptors, n_picks=0)
    with pytest.raises(DataError, match="positive"):
        birch_clusters(scores, threshold=0.0)
    with pytest.raises(DataError, match="neither"):
        birch_clusters(scores)
