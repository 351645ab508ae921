"""Studentised residuals: what a label says, measured by what the others leave of it."""

import numpy as np
import pytest

from mlip_autopipec.ace.linear import RowReducer, solve
from mlip_autopipec.ace.outliers import studentised

RNG = np.random.default_rng(1)
TRUTH = RNG.normal(size=12)


def fitted(blocks, ridge=0.0):
    reducer = RowReducer(12)
    for rows, targets in blocks:
        reducer.add(rows, targets)
    return solve(reducer.triangle(), ridge=ridge)


def blocks(noise=0.1, count=20, size=9):
    rows = [RNG.normal(size=(size, 12)) for _ in range(count)]
    return [(r, r @ TRUTH + noise * RNG.normal(size=size)) for r in rows]


def test_influence_is_the_covariance_of_the_coefficients():
    data = blocks()
    fit = fitted(data)
    matrix = np.concatenate([rows for rows, _ in data])
    np.testing.assert_allclose(fit.influence @ fit.influence.T, np.linalg.inv(matrix.T @ matrix), atol=1e-12)
    ridged = fitted(data, ridge=1e-2)
    assert np.trace(ridged.influence @ ridged.influence.T) < np.trace(fit.influence @ fit.influence.T)


def test_it_is_the_error_of_a_fit_without_the_structure():
    """r^T (I - H)^-1 r = e^T (I - H) e with e the residuals of a fit that has not seen these rows."""
    data = blocks()
    fit = fitted(data)
    for k in (0, 7):
        rows, targets = data[k]
        others = fitted(data[:k] + data[k + 1 :])
        unseen = targets - rows @ others.coefficients
        freedom = np.eye(len(rows)) - rows @ fit.influence @ fit.influence.T @ rows.T
        expected = np.sqrt(unseen @ freedom @ unseen / len(targets))
        found = studentised(rows, targets - rows @ fit.coefficients, fit.influence)
        assert found == pytest.approx(expected, rel=1e-3)


def test_it_measures_noise_and_not_leverage():
    few = blocks(count=3)  # 27 rows for 12 coefficients: plain residuals are much smaller than the noise
    found = []
    for _ in range(200):
        data = [(rows, rows @ TRUTH + 0.1 * RNG.normal(size=len(rows))) for rows, _ in few]
        fit = fitted(data)
        found.append([studentised(r, t - r @ fit.coefficients, fit.influence) for r, t in data])
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(0.1, rel=0.05)


def test_a_direction_that_only_one_structure_knows_says_nothing():
    data = [(np.eye(12)[:6], np.full(6, 1e6)), *blocks(count=1, size=6)]
    fit = fitted(data)
    rows, targets = data[0]
    assert studentised(rows, targets - rows @ fit.coefficients, fit.influence) < 1e-3 * 1e6
