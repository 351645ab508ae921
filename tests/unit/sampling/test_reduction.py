"""Normalisation and principal components of a pool that is read in blocks."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.sampling.reduction import Moments, fit_reduction


@pytest.fixture
def pool() -> np.ndarray:
    """Correlated columns of very different sizes around large means, one of them constant."""
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(700, 4)) @ rng.normal(size=(4, 12)) + 0.1 * rng.normal(size=(700, 12))
    rows = rows * np.logspace(-4, 3, 12) + 50.0 * np.logspace(-4, 3, 12)
    rows[:, 5] = 1e6 / 3.0
    return rows


def blocks(rows, size=64):
    return [rows[k : k + size] for k in range(0, len(rows), size)]


def varying(rows):
    return np.delete(rows, 5, axis=1)


def test_moments_do_not_depend_on_the_blocks(pool):
    moments = Moments()
    for rows in blocks(pool, 13):
        moments.add(rows)
    assert moments.count == len(pool)
    assert moments.mean == pytest.approx(pool.mean(axis=0), rel=1e-13)
    spread = np.sqrt(np.diag(np.cov(pool.T))) + 1e-30
    found = moments.scatter / (len(pool) - 1) / np.outer(spread, spread)
    assert varying(varying(found).T) == pytest.approx(np.corrcoef(varying(pool).T), abs=1e-11)


def test_scores_equal_those_of_scikit_learn(pool):
    reduction = fit_reduction(blocks(pool))
    normalised = StandardScaler().fit_transform(varying(pool))
    pca = PCA().fit(normalised)
    kept = int(np.sum(pca.explained_variance_ > 1.0))
    theirs = (pca.transform(normalised) * pca.explained_variance_ratio_)[:, :kept]
    ours = reduction.project_all(blocks(pool, 100))
    assert ours.shape == theirs.shape
    assert reduction.explained == pytest.approx(pca.explained_variance_ratio_[:kept], rel=1e-10)
    signs = np.sign(np.sum(ours * theirs, axis=0))
    assert ours * signs == pytest.approx(theirs, abs=1e-5 * np.abs(theirs).max())


def test_components_can_be_chosen_by_the_variance_that_they_explain(pool):
    assert len(fit_reduction([pool], explained=1.0).weights) == 11
    few = fit_reduction([pool], explained=0.6, weighted=False)
    assert few.explained.sum() >= 0.6 > few.explained[:-1].sum()
    assert np.array_equal(few.weights, np.ones(len(few.explained)))
    assert few.project(pool).var(axis=0) == pytest.approx(few.explained * 11, rel=1e-4)


def test_what_cannot_be_reduced_is_refused(pool):
    once = iter(blocks(pool))
    reduction = fit_reduction(once)
    with pytest.raises(DataError, match="700 rows in the first pass, 0 in the second"):
        reduction.project_all(once)
    with pytest.raises(DataError, match="alike"):
        fit_reduction([np.full((50, 3), 0.1)])
    with pytest.raises(DataError, match="0 rows"):
        fit_reduction([])
    broken = pool.copy()
    broken[3, 2] = np.nan
    with pytest.raises(DataError, match="not finite"):
        fit_reduction(blocks(broken))
    with pytest.raises(DataError, match="rows of 3 numbers after rows of 12"):
        fit_reduction([pool, pool[:, :3]])
