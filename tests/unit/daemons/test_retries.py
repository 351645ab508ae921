"""When a failed fit is tried again, and when its labels are given up."""

from __future__ import annotations

from mlip_autopipec.core.errors import AutopipeError, Crashed, EngineError, ModelError
from mlip_autopipec.daemons.retries import Retries
from mlip_autopipec.runtime.child import Result

GATE = ModelError("gate: energies differ")


def outcomes(*failures: tuple[str, AutopipeError], first: bool = False, died: bool = False) -> list[bool]:
    retries = Retries()
    return [retries.failed(set(new), Result(error=error, died=died), 0.0, first=first) for new, error in failures]


def test_three_of_a_kind_are_enough():
    assert outcomes(("ab", GATE), ("ab", GATE), ("ab", ModelError("gate: energies differ by 2"))) == [
        False,
        False,
        True,
    ]


def test_other_labels_and_other_errors_count_anew():
    assert outcomes(("ab", GATE), ("ab", GATE), ("abc", GATE)) == [False] * 3
    assert outcomes(("ab", GATE), ("ab", GATE), ("ab", EngineError("x")), ("ab", GATE)) == [False] * 4


def test_what_may_pass_and_the_first_fit_are_never_given_up():
    crash = Crashed("killed by SIGKILL", transient=True)
    assert not any(outcomes(*[("ab", crash)] * 9, died=True))  # but not tried for ever: below
    assert not any(outcomes(*[("ab", EngineError("disk full", transient=True))] * 9))
    assert not any(outcomes(*[("ab", GATE)] * 9, first=True))


def test_pauses_double_up_to_a_limit_and_other_labels_need_not_wait():
    retries = Retries()
    waits = []
    for _ in range(9):
        retries.failed({"a"}, Result(error=EngineError("disk full", transient=True)), 100.0, first=False)
        waits.append(retries.wait({"a"}, 100.0))
        assert retries.wait({"a", "b"}, 100.0) == 0
    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert retries.wait({"a"}, 500.0) == 0
    assert "disk full" in retries.error


def test_a_child_that_always_dies_is_not_tried_for_ever():
    retries, crash = Retries(), Result(error=Crashed("fit: killed by SIGKILL", transient=True), died=True)
    waits = []
    for _ in range(6):
        retries.failed({"a"}, crash, 0.0, first=False)
        waits.append(retries.wait({"a"}, 0.0))
    assert waits == [2, 4, 8, 16, 32, float("inf")]
    assert "nothing more is tried" in retries.error
    assert "revive" in retries.error
    assert retries.wait({"a", "b"}, 0.0) == 0
