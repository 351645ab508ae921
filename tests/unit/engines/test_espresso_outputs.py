"""What is read from pw.x's output beside energy, forces and stress: moments and cores, in the words of 6.x and 7.x."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlip_autopipec.core.program import Ended
from mlip_autopipec.engines.espresso.failures import Report
from mlip_autopipec.engines.espresso.outputs import cores_of, read_label

OUTPUT = (Path(__file__).parents[2] / "data" / "espresso" / "converged.pwo").read_text()
SIX = """     Magnetic moment per site:
     atom:    1    charge:    8.4962    magn:    0.7018    constr:    0.0000
     atom:    2    charge:    8.4957    magn:   -0.6018    constr:    0.0000
"""
SEVEN = """     Magnetic moment per site  (integrated on atomic sphere of radius R)
     atom   1 (R=0.357)  charge=  8.4962  magn=  0.7018
     atom   2 (R=0.357)  charge=  8.4957  magn= -0.6018
"""
CELL = """
     total magnetization       =     0.10 Bohr mag/cell
     absolute magnetization    =     1.55 Bohr mag/cell
"""


@pytest.mark.parametrize("block", [SIX, SEVEN])
def test_moments(block: str) -> None:
    first = block.replace("0.7018", "0.9999")
    label = read_label(Report(Ended(0, 1.0), OUTPUT + first + block + CELL, "", ""), 4, stress=True)
    assert label.info["moments"] == [0.7018, -0.6018]
    assert (label.info["total_magnetization"], label.info["absolute_magnetization"]) == (0.1, 1.55)


def test_no_moments_without_spin() -> None:
    info = read_label(Report(Ended(0, 1.0), OUTPUT, "", ""), 4, stress=True).info
    assert not {"moments", "total_magnetization"} & set(info)


@pytest.mark.parametrize(
    ("said", "cores"),
    [
        ("     Parallel version (MPI), running on     8 processors\n", 8),
        ("     Parallel version (MPI & OpenMP), running on      32 processor cores\n", 32),
        ("     Serial multi-threaded version, running on    4 processor cores\n", 4),
        ("     Serial version\n", 1),
        ("", 1),
    ],
)
def test_cores(said: str, cores: int) -> None:
    assert cores_of(said) == cores
