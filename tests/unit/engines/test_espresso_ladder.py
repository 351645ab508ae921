"""The ladder alone: what is tried after what, with nothing run."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise

import pytest

from mlip_autopipec.engines.espresso.failures import Failure, Kind
from mlip_autopipec.engines.espresso.ladder import (
    ANEW,
    FIRST,
    LADDER,
    LARGER_SMEARING,
    MORE_STEPS,
    NEAR,
    End,
    Rung,
    Scf,
    Step,
    climb,
)

WANTED = Scf(electron_maxstep=100, mixing_beta=0.4, degauss_ry=0.005, conv_thr_ry=1e-8)


def failed(kind: Kind, rung: str = FIRST, scf: Scf = WANTED) -> Step:
    return Step(rung, scf, Failure(kind, f"it was {kind}"), states=10)


def climbed(*kinds: Kind | None, max_rungs: int = 20, accept: bool = False) -> tuple[list[Step], End]:
    """Let the runs end in these ways, and in the last one for ever; return all runs and the end."""
    history: list[Step] = []
    scf, name = WANTED, FIRST
    while True:
        kind = kinds[min(len(history), len(kinds) - 1)]
        history.append(Step(name, scf, Failure(kind, str(kind)) if kind else None, states=10))
        decision = climb(history, max_rungs=max_rungs, accept_changed_smearing=accept)
        if isinstance(decision, End):
            return history, decision
        scf, name = decision.apply(history[-1]), decision.name


def test_a_success_ends() -> None:
    history, end = climbed(None)
    assert end == End("converged", label=0)
    assert len(history) == 1


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in LADDER])
def test_what_cannot_be_rescued_ends_at_once(kind: Kind) -> None:
    history, end = climbed(kind)
    assert len(history) == 1
    assert end.label is None
    assert str(kind) in end.reason
    assert {Kind.OVERLAP, Kind.BAD_INPUT, Kind.MISSING_PSEUDOPOTENTIAL, Kind.MAX_TIME, Kind.KILLED}.isdisjoint(LADDER)


@pytest.mark.parametrize("kind", LADDER)
def test_every_rung_changes_one_thing_and_is_tried_once(kind: Kind) -> None:
    history, end = climbed(kind)
    assert [step.rung for step in history[1:]] == [rung.name for rung in LADDER[kind]]
    assert end.label is None
    assert f"every rung for '{kind}'" in end.reason
    for before, after in pairwise(history):
        changed = [key for key, value in asdict(after.scf).items() if value != asdict(before.scf)[key]]
        assert len(changed) == (0 if after.rung == ANEW.name else 1), after.rung


def test_names_of_rungs_are_unique() -> None:
    rungs = {rung for rungs in LADDER.values() for rung in rungs}
    assert len({rung.name for rung in rungs}) == len(rungs)
    assert all(not rung.field or hasattr(WANTED, rung.field) for rung in rungs)


def test_number_of_rungs_is_limited() -> None:
    history, end = climbed(Kind.OSCILLATING, max_rungs=2)
    assert len(history) == 3
    assert end.reason == "all 2 rungs are used"
    assert climbed(Kind.OSCILLATING, max_rungs=0)[1].label is None


def test_another_failure_climbs_its_own_rungs() -> None:
    history, _ = climbed(Kind.NOT_CONVERGED, Kind.OSCILLATING, Kind.CHOLESKY, None)
    assert [step.rung for step in history[1:]] == [
        MORE_STEPS.name,
        LADDER[Kind.OSCILLATING][0].name,
        LADDER[Kind.CHOLESKY][0].name,
    ]
    # What an earlier rung changed stays changed.
    assert history[-1].scf.electron_maxstep == 3 * WANTED.electron_maxstep


def test_larger_smearing_steps_back_to_the_wanted_one() -> None:
    rungs = [rung.name for rung in LADDER[Kind.OSCILLATING]]
    fails = rungs.index(LARGER_SMEARING.name) + 1
    history, end = climbed(*[Kind.OSCILLATING] * fails, None)
    widths = [step.scf.degauss_ry for step in history[fails:]]
    assert widths == [0.02, 0.005]
    assert end.label == len(history) - 1
    decision = climb(history[: fails + 1], max_rungs=20)
    assert isinstance(decision, Rung)
    assert decision.start == "converged"


def test_steps_back_become_shorter() -> None:
    fails = [rung.name for rung in LADDER[Kind.OSCILLATING]].index(LARGER_SMEARING.name) + 1
    bad = Kind.OSCILLATING
    history, end = climbed(*[bad] * fails, None, bad, None, bad, None, None, None, None)
    widths = [step.scf.degauss_ry for step in history[fails:]]
    assert widths == pytest.approx([0.02, 0.005, 0.01, 0.005, 0.01 / 2**0.5, 0.005], rel=1e-6)
    assert end.label == len(history) - 1
    # Another failure on the way climbs its own rungs, and the way back goes on.
    history, end = climbed(*[bad] * fails, None, Kind.CHOLESKY, None)
    assert history[fails + 2].rung == LADDER[Kind.CHOLESKY][0].name
    assert end.label == len(history) - 1


def test_a_changed_smearing_is_a_label_only_if_wanted() -> None:
    rungs = [rung.name for rung in LADDER[Kind.OSCILLATING]]
    fails = rungs.index(LARGER_SMEARING.name) + 1
    ways = (*[Kind.OSCILLATING] * fails, None, Kind.OSCILLATING)
    history, end = climbed(*ways)
    assert end.label is None
    history, end = climbed(*ways, accept=True)
    assert end.label == fails
    assert history[fails].scf.degauss_ry == 0.02
    assert "smearing of 0.02 Ry" in end.reason


def test_more_bands_needs_to_know_how_many_there_were() -> None:
    unknown = replace(failed(Kind.TOO_FEW_BANDS), states=None)
    assert isinstance(climb([unknown], max_rungs=5), End)
    rung = climb([failed(Kind.TOO_FEW_BANDS)], max_rungs=5)
    assert isinstance(rung, Rung)
    assert rung.apply(failed(Kind.TOO_FEW_BANDS)).bands == 17


def test_records_are_for_people() -> None:
    record = failed(Kind.CHOLESKY).record()
    assert (record["rung"], record["end"], record["reason"]) == ("as wanted", "Cholesky", "it was Cholesky")
    assert record["scf"]["mixing_beta"] == 0.4


@pytest.mark.parametrize("kind", LADDER)
def test_a_bad_neighbour_is_left_before_anything_is_changed(kind: Kind) -> None:
    history = [failed(kind, NEAR)]
    decision = climb(history, max_rungs=0)
    assert decision is ANEW
    assert decision.apply(history[0]) == WANTED
    # From then on as ever.
    again = climb([*history, failed(Kind.NOT_CONVERGED, ANEW.name)], max_rungs=9)
    assert again == MORE_STEPS


def test_a_neighbour_mends_no_bad_structure() -> None:
    assert isinstance(climb([failed(Kind.OVERLAP, NEAR)], max_rungs=9), End)
