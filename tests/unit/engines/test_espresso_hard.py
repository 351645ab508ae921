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
def test_the_ladder_solves_what_the_defaults_do_not(pw_x: str) -> None:
    """Which rungs it takes depends on the BLAS that pw.x is linked with: SCFs that oscillate feel its last digits."""
    rows = [run_case(name, LIMIT_S) for name in CASES]
    for row in rows:
        story = ", ".join(f"{rung['rung']}: {rung['end']} ({rung['iterations']})" for rung in row["rungs"])
        print(f"{row['case']}: defaults {row['defaults_end']}; ladder {row['ladder_mev']} meV/atom off: {story}")
        assert row["tight"] is not None, row["case"]
        assert row["defaults_class"] in ("", "oscillating", "not converged")
        assert row["rungs"][0]["rung"] == "as wanted"
        assert row["ladder_end"] != "label" or row["rungs"][-1]["end"] == "converged"
    assert len(rows) == 10
    assert sum(row["ladder_good"] for row in rows) >= 8
    assert sum(row["defaults_good"] for row in rows) <= 3
