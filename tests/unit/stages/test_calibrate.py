"""Bounds and halt levels hold what they promise on fresh draws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, binom

from mlip_autopipec.stages.calibrate import (
    LOWEST_LEVEL,
    Pair,
    audit_bound,
    failure_bound,
    halt_level,
    is_converged,
    upper_quantile,
)

TARGET = 0.1


def pairs(gammas, errors, *, audit: bool = True, level: float = 5.0) -> list[Pair]:
    return [
        Pair(f"{i:020x}", "v0001", "b", audit, float(g), float(e), level)
        for i, (g, e) in enumerate(zip(gammas, errors, strict=True))
    ]


@pytest.mark.parametrize(("k", "n"), [(0, 28), (0, 59), (3, 40), (39, 40)])
def test_the_bound_of_a_share_is_that_of_clopper_and_pearson(k: int, n: int) -> None:
    bound = failure_bound(k, n, 0.95)
    assert bound == pytest.approx(beta.ppf(0.95, k + 1, n - k))
    assert binom.cdf(k, n, bound) == pytest.approx(0.05)  # its definition


def test_nothing_drawn_says_nothing() -> None:
    assert failure_bound(0, 0, 0.95) == failure_bound(4, 4, 0.95) == 1.0
    assert upper_quantile([]) is None


def test_fifty_nine_draws_are_needed_for_95_percent_with_95_percent() -> None:
    assert upper_quantile(range(58)) is None
    assert upper_quantile(range(59)) == 58.0
    assert upper_quantile(range(93)) == 91.0  # one may be larger: the classical table of tolerance limits


def test_the_quantile_bound_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    true = np.exp(1.6448536269514722)  # 95 % quantile of a lognormal
    held = [upper_quantile(np.exp(rng.normal(size=80))) >= true for _ in range(1000)]
    assert np.mean(held) >= 0.95 - 0.015


def world(rng: np.random.Generator, n: int, slope: float, noise: float):
    """Environments whose error grows with gamma, or (slope 0) does not care."""
    gamma = 5.0 * rng.beta(1.2, 4.0, size=n)
    return gamma, 0.03 * (1.0 + slope * gamma) * np.exp(noise * rng.normal(size=n))


# What a level of 5 would give: (0.0, 0.3) all is good, (0.5, 0.5) 8 % are bad, (2.0, 0.7) a third is.
@pytest.mark.parametrize(("slope", "noise"), [(0.0, 0.3), (0.5, 0.5), (1.0, 0.5), (2.0, 0.7)])
@pytest.mark.parametrize("n", [30, 60, 200])
def test_below_the_halt_level_95_percent_of_fresh_draws_are_good(slope: float, noise: float, n: int) -> None:
    """In the mean over data sets, and in at least three of four of them each, however error and gamma go together."""
    rng = np.random.default_rng(int(100 * slope + 10 * noise) + n)
    fresh_gamma, fresh_error = world(rng, 20_000, slope, noise)

    def share(level: float) -> float:
        return float(np.mean(fresh_error[fresh_gamma <= level] <= TARGET))

    levels = [halt_level(pairs(*world(rng, n, slope, noise)), TARGET).value for _ in range(100)]
    # At the lowest level the audits say that nothing is good enough, which no choice of a level can change.
    wrong = [share(level) < 0.95 for level in levels if level is not None and level > LOWEST_LEVEL]
    assert None not in levels
    assert sum(wrong) <= 0.25 * len(levels)
    if share(LOWEST_LEVEL) >= 0.95:
        assert np.mean([share(level) for level in levels if level is not None]) >= 0.95


def test_where_errors_ignore_gamma_and_are_too_large_no_level_is_found() -> None:
    rng = np.random.default_rng(5)
    found = [halt_level(pairs(5 * rng.random(100), 0.2 + rng.random(100)), TARGET).value for _ in range(20)]
    assert set(found) == {LOWEST_LEVEL}


def test_too_few_audits_give_no_level_whatever_labels_there_are() -> None:
    labels = pairs(np.linspace(5, 50, 200), np.full(200, 0.01), audit=False)
    found = halt_level([*pairs(np.linspace(0, 5, 29), np.zeros(29)), *labels], TARGET)
    assert found.value is None
    assert "29 of 30" in found.reason


def test_audits_that_are_all_good_reach_up_to_where_they_were_picked() -> None:
    """A random atom hardly ever has the largest gamma of its frame: the level is not that of the luckiest audit."""
    rng = np.random.default_rng(7)
    good = pairs(2.0 * rng.random(40), np.full(40, 0.02), level=5.0)
    assert halt_level(good, TARGET).value == 5.0
    lower = pairs(2.0 * rng.random(40), np.full(40, 0.02), level=3.0)
    assert halt_level(lower, TARGET).value == 3.0
    # Enough of them were picked up to 5.
    assert halt_level([*good, *lower[:15]], TARGET).value == 5.0
    assert halt_level(good, TARGET, ceiling=4.0).value == 4.0


def test_labels_of_uncertain_regions_let_the_level_rise_and_stop_it() -> None:
    good = pairs(np.linspace(0.1, 2, 50), np.full(50, 0.02), level=5.0)
    labels = pairs([6, 7, 8, 9, 10, 11], [0.05, 0.05, 0.05, 0.5, 0.5, 0.5], audit=False)
    level = halt_level([*good, *labels], TARGET).value
    assert level is not None
    assert 8.0 <= level < 11.0


def test_the_level_rises_no_more_once_audits_prove_the_target() -> None:
    """Some of them were drawn when the level had risen; what they all prove ends where the first ones were drawn."""
    first = pairs(np.linspace(0.1, 2, 30), np.full(30, 0.02), level=5.0)
    later = pairs(np.linspace(0.1, 6, 30), np.full(30, 0.02), level=9.0)
    labels = pairs([6, 7, 8, 9, 10, 11], np.full(6, 0.05), audit=False)
    level = halt_level([*first, *labels], TARGET).value
    assert level is not None
    assert level > 5.0
    level = halt_level([*first, *later, *labels], TARGET).value
    assert level is not None
    assert level > 5.0  # not all of the later ones say something of what lies below 5
    drawn = [*first, *later, *pairs([0.5] * 5, [0.02] * 5, level=9.0)]
    assert halt_level([*drawn, *labels], TARGET).value == 5.0
    assert is_converged(drawn, 5.0, TARGET)


def test_bad_audits_at_high_gamma_lower_the_level() -> None:
    gammas = np.linspace(0.1, 5.0, 100)
    found = halt_level(pairs(gammas, np.where(gammas > 3.0, 0.5, 0.02)), TARGET).value
    assert found is not None
    assert 2.9 <= found <= 3.3


def test_converged_only_with_a_bound_below_the_target() -> None:
    few = pairs(np.linspace(0, 4, 58), np.full(58, 0.01))
    assert audit_bound(few, 5.0) is None
    assert not is_converged(few, 5.0, TARGET)
    enough = [*few, *pairs([2.0], [0.02])]
    assert is_converged(enough, 5.0, TARGET)
    assert not is_converged(enough, 1.0, TARGET)  # below this level there are too few
    assert not is_converged([*few, *pairs([2.0], [0.2])], 5.0, TARGET)
    labels = pairs(np.linspace(0, 4, 500), np.full(500, 0.01), audit=False)
    assert not is_converged([*few, *labels], 5.0, TARGET)  # only audits count


def test_audits_drawn_below_a_lower_level_prove_nothing_of_a_higher_one() -> None:
    drawn = pairs(np.linspace(0, 1.4, 80), np.full(80, 0.01), level=1.5)
    assert is_converged(drawn, 1.5, TARGET)
    assert audit_bound(drawn, 4.0) is None
    assert not is_converged(drawn, 4.0, TARGET)
