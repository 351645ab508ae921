"""A halt ends in exactly one way (issue 2, Build 5)."""

from __future__ import annotations

from typing import Any

import pytest

from mlip_autopipec.stages.swap import Decision, decide

TASK = "a" * 20


def decision(**changes: Any) -> Decision:
    settings: dict[str, Any] = {
        "halted_version": "v0001",
        "current_version": "v0001",
        "contained": set(),
        "holder": changes.get("current_version", "v0001"),
        "task_states": {TASK: "pending"},
        "threshold": 5.0,
        "reseeds_in_a_row": 0,
        "reseed_limit": 3,
        "gamma_now": lambda: pytest.fail("gamma cannot have changed"),
    }
    return decide(**{**settings, **changes})


def test_waits_while_its_label_may_still_come() -> None:
    for state in ("pending", "delayed", "running", "done"):
        assert decision(task_states={TASK: state}).action == "wait"
    assert TASK in decision().reason


def test_swaps_when_the_new_version_knows_the_frame_even_before_its_own_label_is_in() -> None:
    got = decision(current_version="v0002", gamma_now=lambda: 4.9)
    assert (got.action, got.gamma) == ("swap", 4.9)


def test_goes_on_waiting_when_a_version_without_its_label_does_not_help() -> None:
    assert decision(current_version="v0002", gamma_now=lambda: 9.0).action == "wait"


def test_reseeds_when_its_label_is_in_but_gamma_is_still_above() -> None:
    got = decision(current_version="v0002", contained={TASK}, task_states={TASK: "done"}, gamma_now=lambda: 9.0)
    assert got.action == "reseed"
    assert "9.00" in got.reason


@pytest.mark.parametrize("state", ["failed", "cancelled", "corrupt", "refused"])
def test_reseeds_when_no_label_will_ever_come(state: str) -> None:
    got = decision(task_states={TASK: state})
    assert got.action == "reseed"
    assert state in got.reason


def test_third_failed_healing_in_a_row_is_the_end() -> None:
    assert decision(task_states={TASK: "failed"}, reseeds_in_a_row=1).action == "reseed"
    assert decision(task_states={TASK: "failed"}, reseeds_in_a_row=2).action == "stuck"


def test_follows_a_rollback_like_any_swap() -> None:
    assert decision(halted_version="v0003", current_version="v0002", gamma_now=lambda: 1.0).action == "swap"


def test_the_reason_names_the_version_that_has_the_labels() -> None:
    """The user went back to v0001, where the walker halts again on a frame whose label is in v0002."""
    got = decision(contained={TASK}, task_states={TASK: "done"}, holder="v0002")
    assert got.action == "reseed"
    assert got.reason == "v0002 has its labels, but v0001 is current and its gamma is still above"


def test_a_halt_without_a_task_goes_on_with_the_reason() -> None:
    got = decision(task_states={}, refusal="embedding: no cell is faithful")
    assert (got.action, got.reason, got.heal_failed) == ("reseed", "embedding: no cell is faithful", False)


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({"current_version": "v0002", "contained": {TASK}, "gamma_now": lambda: 9.0}, True),
        ({"current_version": "v0002", "contained": {TASK}, "gamma_now": lambda: 9.0, "reseeds_in_a_row": 2}, True),
        ({"current_version": "v0002", "gamma_now": lambda: 9.0, "task_states": {TASK: "failed"}}, False),
        ({"contained": {TASK}, "holder": "v0002"}, False),
    ],
)
def test_healing_failed_only_if_the_current_version_has_the_label(changes: dict[str, Any], failed: bool) -> None:
    assert decision(**changes).heal_failed is failed
