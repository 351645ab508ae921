"""`scripts/bench efficiency`: its teacher, its structures, how it counts, and a quick run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHES = Path(__file__).parents[3] / "scripts" / "benches"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHES / "efficiency"))


def test_forces_of_silicon_are_the_slope_of_its_energy() -> None:
    from materials import MATERIALS

    atoms = MATERIALS[1].small()
    assert MATERIALS[1].labelled(atoms).get_potential_energy() / 32 == pytest.approx(-4.3363, abs=1e-3)
    atoms.rattle(0.2, seed=1)
    atoms.set_cell(atoms.cell @ np.array([[1, 0, 0], [0.1, 1, 0], [0, 0.2, 1]]), scale_atoms=True)
    atoms.calc = MATERIALS[1].calculator()
    force = atoms.get_forces()[5]
    energies = []
    for step in (-1e-4, 1e-4):
        moved = atoms.copy()
        moved.calc = MATERIALS[1].calculator()
        moved.positions[5, 1] += step
        energies.append(moved.get_potential_energy())
    assert force[1] == pytest.approx((energies[0] - energies[1]) / 2e-4, rel=1e-4)


@pytest.mark.parametrize("place", [0, 1])
def test_a_dislocation_is_an_extra_half_plane_in_an_otherwise_perfect_crystal(place: int) -> None:
    from materials import MATERIALS, dislocation, near_the_glide_plane
    from vesin import NeighborList

    material = MATERIALS[place]
    atoms = dislocation(material)
    middle = 0.5 * (atoms.positions[:, 1].min() + atoms.positions[:, 1].max())
    above, below = (atoms.positions[:, 1] > middle).sum(), (atoms.positions[:, 1] < middle).sum()
    columns = 11 if material.symbol == "Al" else 8
    assert above * columns == below * (columns + 1)
    bond, coordination = (2.85, 12) if material.symbol == "Al" else (2.36, 4)
    first, _ = NeighborList(cutoff=1.2 * bond, full_list=True).compute(
        atoms.positions, np.asarray(atoms.cell), [True] * 3, "ij"
    )
    counts = np.bincount(first.astype(int), minlength=len(atoms))
    heights = atoms.positions[:, 1]
    surface = (heights < heights.min() + 3.0) | (heights > heights.max() - 3.0)
    wrong = (counts != coordination) & ~surface
    assert 0 < wrong.sum() < 0.2 * len(atoms)
    assert near_the_glide_plane(atoms)[wrong].all()


def test_what_is_reached_is_counted_at_the_first_version_that_is_good_enough() -> None:
    sys.path.insert(0, str(BENCHES))
    try:
        import efficiency
    finally:
        sys.path.remove(str(BENCHES))

    curve = [
        {"labels": n, "seconds": 2.0 * n, "rmse": e, "errors": {"dislocation": e}}
        for n, e in ((0, 0.9), (5, 0.4), (9, 0.2))
    ]
    assert efficiency.reached(curve, 0.5, "labels") == 5
    assert efficiency.reached(curve, 0.2, "seconds") == 18
    assert efficiency.reached(curve, 0.1, "labels") == float("inf")
    assert efficiency.at_cost(curve, 17.0, "dislocation") == 0.4
    row = {"material": "Al", "seed": 1, "share": 0.34, "cost_ratio": 0.9, "dislocation": 0.3, "cells_dislocation": 0.2}
    assert len(efficiency.failures([row])) == 2
    assert efficiency.failures([{**row, "share": 0.33, "dislocation": 0.1}]) == []


@pytest.mark.slow
def test_a_quick_run(tmp_path: Path) -> None:
    plot = tmp_path / "curves.png"
    command = [sys.executable, "-P", str(BENCHES / "efficiency.py"), "--quick", "--json", "--plot", str(plot)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {row["material"] for row in found["rows"]} == {"Al", "Si"}
    for result in found["results"]:
        assert result["curves"]["random carved"][-1]["labels"] == 5
        assert {row["mask"] for row in result["masks"]} == {"radius", "sane", "none"}
        for curve in result["curves"].values():
            assert curve[-1]["rmse"] < curve[0]["rmse"]
    assert plot.stat().st_size > 10_000
