"""By which rule a run is over (issue 5, Build 7)."""

from __future__ import annotations

import pytest

from mlip_autopipec.stages.end import EndSettings, RunFacts, why_over

QUIET = RunFacts(hours=5.0, labels=40, quiet=[5000, 900, 12_000], converged=True)


def test_without_rules_only_the_steps_end_a_run() -> None:
    assert not EndSettings().is_set
    assert why_over(EndSettings(), QUIET) == ""


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"hours": 5.0}, "end.hours"),
        ({"hours": 5.1}, ""),
        ({"labels": 40}, "end.labels"),
        ({"labels": 41}, ""),
        ({"quiet_steps": 900}, "end.quiet_steps"),
        ({"quiet_steps": 901}, ""),
        ({"hours": 6.0, "labels": 100, "quiet_steps": 10}, "converged"),
    ],
)
def test_each_rule_ends_a_run_at_its_own_bound(settings: dict[str, float], word: str) -> None:
    told = why_over(EndSettings(**settings), QUIET)  # type: ignore[arg-type]
    assert bool(told) == bool(word)
    assert word in told


def test_quiet_walkers_are_no_proof_without_audits_nor_audits_with_a_walker_that_asks() -> None:
    rule = EndSettings(quiet_steps=900)
    assert not why_over(rule, RunFacts(5.0, 40, [5000, 900], converged=False))
    assert not why_over(rule, RunFacts(5.0, 40, [5000, -3], converged=True))
    assert not why_over(rule, RunFacts(5.0, 40, [], converged=True))  # nobody moves: the run is over anyway
