"""What the gate makes of numbers: worse groups, blind gammas, hills in an equation of state."""

import numpy as np
import pytest

from mlip_autopipec.stages.gate import (
    Check,
    Miss,
    compare_held_out,
    equation_of_state,
    held_back_by,
    rank_correlation,
    squeezed_pairs,
)


def misses(group, size, count=6, energy=None):
    return {f"{group}{k}": Miss(group, np.full(30, size), energy) for k in range(count)}


def test_a_group_that_gets_worse_fails_and_is_named():
    old = misses("solid", 0.05) | misses("liquid", 0.2, energy=5.0)
    better = misses("solid", 0.06) | misses("liquid", 0.1, energy=5.0)
    assert compare_held_out(better, old, 0.25).passed is True
    worse = misses("solid", 0.09) | misses("liquid", 0.1, energy=5.0)
    check = compare_held_out(worse, old, 0.25)
    assert check.passed is False
    assert check.told == "solid: force RMSE 0.09, of the current version 0.05 eV/A"
    assert check.numbers["solid"]["force_rmse_current"] == pytest.approx(0.05)
    energy = misses("solid", 0.05) | misses("liquid", 0.2, energy=9.0)
    assert "liquid: energy RMSE 9, of the current version 5 meV/atom" in compare_held_out(energy, old, 0.25).told


def test_few_structures_and_small_changes_decide_nothing():
    assert compare_held_out(misses("a", 1.0, 3), misses("a", 0.1, 3), 0.25).passed is None
    assert compare_held_out({}, {}, 0.25).passed is None
    assert compare_held_out(misses("a", 0.008), misses("a", 0.004), 0.25).passed is True


def test_one_structure_of_many_makes_no_trend():
    old = misses("a", 0.1, 8)
    assert compare_held_out(old | {"a3": Miss("a", np.full(30, 0.4), None)}, old, 0.25).passed is True
    assert compare_held_out(misses("a", 0.2, 8), old, 0.25).passed is False


def test_not_a_number_is_worse():
    assert compare_held_out(misses("a", np.nan), misses("a", 0.1), 0.25).passed is False


def test_only_labels_that_both_predict_are_compared():
    new = misses("a", 0.1) | misses("b", 9.0)
    assert compare_held_out(new, misses("a", 0.1), 0.25).passed is True


def test_gamma_that_ranks_nothing_fails_once_there_are_enough_environments():
    gammas = np.linspace(1, 5, 60)
    noise = np.random.default_rng(1).permutation(60)
    assert rank_correlation(gammas, gammas**2).passed is True
    assert rank_correlation(gammas, noise).passed is False
    assert rank_correlation(gammas, -gammas).passed is False
    assert rank_correlation(gammas[:19], gammas[:19]).passed is None
    assert rank_correlation([1.0] * 30, list(range(30))).passed is None


def test_a_pair_that_gamma_does_not_see_is_named():
    seen = [{"pair": "Al-Al", "distance": d, "gamma": 1e3 / d} for d in (1.8, 1.0, 0.5)]
    assert squeezed_pairs(seen, 5.0).passed is True
    check = squeezed_pairs([*seen, {"pair": "Al-Cu", "distance": 0.7, "gamma": 0.8}], 5.0)
    assert check.passed is False
    assert check.told == "Al-Cu at 0.70 A has gamma 0.8, the halt level is 5"
    assert squeezed_pairs([{"pair": "X-X", "distance": 1.0, "gamma": float("nan")}], 5.0).passed is False
    assert squeezed_pairs([], 5.0).passed is None


def test_a_hill_in_the_equation_of_state_fails():
    scales = np.linspace(0.92, 1.08, 9)
    parabola = (scales - 1.01) ** 2
    assert equation_of_state(scales, parabola).passed is True
    assert equation_of_state(scales, scales).passed is True
    assert equation_of_state(scales, parabola - 1e-2 * np.exp(-(((scales - 0.94) / 0.01) ** 2))).passed is False
    assert equation_of_state(scales, -parabola).passed is False
    assert equation_of_state(scales[:4], parabola[:4]).passed is None


def test_only_what_the_current_version_passes_holds_a_new_one_back():
    failed = [Check("squeezed_pairs", False, "blind"), Check("gamma_rank", None, "few")]
    assert held_back_by(failed, {"squeezed_pairs": True}) == ["squeezed_pairs: blind"]
    assert held_back_by(failed, {"squeezed_pairs": False}) == []
    assert held_back_by(failed, {}) == []
    assert held_back_by(failed, None) == []
    worse = [Check("held_out", False, "worse")]
    assert held_back_by(worse, {}) == ["held_out: worse"]
    assert held_back_by(worse, {"held_out": False}) == []  # a potential that the user brought: of these very labels
