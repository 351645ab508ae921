"""Hard SCFs of the real pw.x: what its defaults make of them, and the ladder (issue 6, Must show 2).

The cases stand in scripts/benches/dft/hardcases.py; `scripts/bench dft --part cases` shows them as a table.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts" / "benches" / "dft"))
from hardcases import CASES, run_case

LIMIT_S = 600.0


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CASES))
def test_the_ladder_ends_with_the_label_of_a_careful_computation(pw_x: str, name: str) -> None:
    row, case = run_case(name, LIMIT_S), CASES[name]
    print(row)
    assert row["defaults_class"] == case.defaults
    assert tuple(f"{rung['rung']}: {rung['end']}" for rung in row["rungs"]) == case.rungs
    assert row["ladder_end"] == "label"
    assert row["ladder_good"]


def test_ten_cases_at_most_three_of_which_are_easy() -> None:
    assert len(CASES) == 10
    assert sum(not case.defaults for case in CASES.values()) <= 3
