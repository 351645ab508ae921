"""Least squares: recovers truths, ignores what is masked, survives rank deficiency."""

import numpy as np
import pytest

from mlip_autopipec.ace.linear import LabelledDesign, RowReducer, fit, solve
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import Design

COLUMNS = 14
RANKS = [1] * 5 + [2] * 5 + [3] * 4


def labelled(seed, truth, *, noise=0.0, learned=None, energy_weight=100.0):
    rng = np.random.default_rng(seed)
    size = np.logspace(0, -4, COLUMNS)
    design = Design(rng.normal(size=COLUMNS) * size, rng.normal(size=(6, 3, COLUMNS)) * size, {})
    forces = design.forces @ truth + noise * rng.normal(size=(6, 3))
    learned = np.ones(6, dtype=bool) if learned is None else learned
    return LabelledDesign(f"s{seed}", design, float(design.energy @ truth), forces, learned, energy_weight, 1.0)


@pytest.fixture
def truth():
    return np.random.default_rng(99).normal(size=COLUMNS)


def test_recovers_an_exact_truth(truth):
    result = fit([labelled(s, truth) for s in range(20)], RANKS)
    np.testing.assert_allclose(result.coefficients, truth, rtol=0, atol=1e-9)
    assert result.report.n_rows == 20 * 19
    assert result.report.ridge_chosen


def test_blocks_do_not_matter(truth):
    data = [labelled(s, truth, noise=0.01) for s in range(20)]
    whole, bits = RowReducer(COLUMNS), RowReducer(COLUMNS)
    whole.add(np.concatenate([d.rows()[0] for d in data]), np.concatenate([d.rows()[1] for d in data]))
    for d in data:
        for row, target in zip(*d.rows(), strict=True):
            bits.add(row[None], np.array([target]))
    a, b = solve(whole.triangle()), solve(bits.triangle())
    np.testing.assert_allclose(a.coefficients, b.coefficients, rtol=1e-6, atol=1e-9)
    assert a.report.noise == pytest.approx(b.report.noise)
    expected = np.linalg.lstsq(*[np.concatenate([d.rows()[i] for d in data]) for i in (0, 1)])[0]
    np.testing.assert_allclose(solve(whole.triangle(), ridge=0.0).coefficients, expected, rtol=1e-8, atol=1e-9)


def test_noise_is_found(truth):
    data = [labelled(s, truth, noise=0.05, energy_weight=0) for s in range(40)]
    assert fit(data, RANKS).report.noise == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("poison", [1e6, np.nan])
def test_masked_forces_do_not_enter_in_any_bit(truth, poison):
    learned = np.array([True, True, False, True, False, False])
    clean = [labelled(s, truth, noise=0.01, learned=learned, energy_weight=0) for s in range(20)]
    poisoned = [labelled(s, truth, noise=0.01, learned=learned, energy_weight=0) for s in range(20)]
    for one in poisoned:
        one.forces[~learned] = poison
    assert (fit(clean, RANKS).coefficients == fit(poisoned, RANKS).coefficients).all()


def test_unmasked_poison_is_refused_by_name(truth):
    data = [labelled(s, truth) for s in range(3)]
    data[1].forces[0, 0] = np.nan
    with pytest.raises(DataError, match="s1"):
        fit(data, RANKS)


def test_energy_weight_zero_leaves_energies_out(truth):
    data = [labelled(s, truth, energy_weight=0) for s in range(10)]
    wrong = [LabelledDesign(d.name, d.design, 1e9, d.forces, d.learned, 0.0, 1.0) for d in data]
    assert (fit(data, RANKS).coefficients == fit(wrong, RANKS).coefficients).all()


def test_missing_and_double_columns_are_survived(truth):
    data = []
    for s in range(20):
        one = labelled(s, truth)
        one.design.forces[..., 3] = 0.0
        one.design.energy[3] = 0.0
        one.design.forces[..., 5] = one.design.forces[..., 4]
        one.design.energy[5] = one.design.energy[4]
        one.forces[:] = one.design.forces @ truth
        data.append(LabelledDesign(one.name, one.design, one.design.energy @ truth, one.forces, one.learned, 1.0, 1.0))
    result = fit(data, RANKS)
    assert result.coefficients[3] == 0
    assert result.report.n_dropped == 2
    assert abs(result.coefficients).max() < 10
    for one in data:
        np.testing.assert_allclose(one.design.forces @ result.coefficients, one.forces, atol=1e-9)


def test_fewer_rows_than_columns(truth):
    data = [labelled(0, truth, energy_weight=0, learned=np.array([True] + [False] * 5))]
    result = fit(data, RANKS)
    np.testing.assert_allclose(data[0].design.forces[0] @ result.coefficients, data[0].forces[0], atol=1e-6)


def test_stiffness_keeps_high_ranks_small(truth):
    data = [labelled(s, truth, noise=0.3) for s in range(4)]
    free = fit(data, RANKS, ridge=1e-4).coefficients
    stiff = fit(data, RANKS, ridge=1e-4, rank_stiffness=100.0).coefficients
    assert np.abs(stiff[10:]).sum() < 0.2 * np.abs(free[10:]).sum()


def test_nothing_to_fit_is_an_error():
    with pytest.raises(DataError, match="nothing to fit"):
        fit([], RANKS)


def test_merged_reducers_are_one(truth):
    data = [labelled(s, truth, noise=0.01) for s in range(20)]
    whole, parts, merged = RowReducer(COLUMNS), [RowReducer(COLUMNS) for _ in range(3)], RowReducer(COLUMNS)
    for i, d in enumerate(data):
        whole.add(*d.rows())
        parts[i % 3].add(*d.rows())
    for part in parts:
        merged.merge(part.triangle())
    one, other = solve(whole.triangle()), solve(merged.triangle())
    assert other.report.n_rows == one.report.n_rows
    assert other.report.noise == pytest.approx(one.report.noise, rel=1e-9)
    np.testing.assert_allclose(other.coefficients, one.coefficients, rtol=1e-6, atol=1e-9)


def test_prior_by_coefficients_is_plain_ridge_regression(truth):
    data = [labelled(s, truth, noise=0.3) for s in range(6)]
    rows, targets = (np.concatenate([d.rows()[i] for d in data]) for i in (0, 1))
    strength = 1e-3 * np.linalg.norm(rows, 2) ** 2
    expected = np.linalg.solve(rows.T @ rows + strength * np.eye(COLUMNS), rows.T @ targets)
    found = fit(data, RANKS, ridge=1e-3, length_power=0.0).coefficients
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9)


def test_functions_that_hardly_vary_stay_small_under_a_prior_by_coefficients(truth):
    # The shortest columns are 1e-4 of the longest: noise would give them huge coefficients.
    data = [labelled(s, truth, noise=0.3) for s in range(6)]
    by_length = np.abs(fit(data, RANKS, ridge=1e-4).coefficients)
    by_coefficient = np.abs(fit(data, RANKS, ridge=1e-4, length_power=0.0).coefficients)
    assert by_coefficient[-1] < 1e-2 * by_length[-1]
    assert by_coefficient[0] == pytest.approx(by_length[0], rel=0.2)
