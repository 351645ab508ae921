"""Which cells are worth a label, and which atoms of a frame are regions of their own."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.ace.maxvol import active_set
from mlip_autopipec.ace.virtual_set import VirtualSet
from mlip_autopipec.stages.choose import Candidate, CostModel, choose, distinct_regions


def virtual(k: int = 6) -> VirtualSet:
    return VirtualSet({"Al": active_set(np.random.default_rng(0).normal(size=(50, k))).inverse})


def cell(name: str, size: float, *, atoms: int = 50, seed: int = 1) -> Candidate:
    row = np.random.default_rng(100 + seed).normal(size=(1, 6))
    return Candidate(name, atoms, {"Al": size * row / np.linalg.norm(row)})


def test_twins_are_sent_once() -> None:
    one, twin = cell("one", 50.0), cell("twin", 49.9)
    chosen, known = choose([one, twin], virtual(), threshold=2.0, cost=CostModel(), most=9)
    assert [c.name for c in chosen] == ["one"]
    assert known["twin"] <= 1.01
    assert chosen[0].gamma == virtual().gamma(one.rows)
    assert chosen[0].gain == pytest.approx(virtual().gain(one.rows))


def test_what_is_below_the_threshold_is_not_sent() -> None:
    dull = cell("dull", 0.1)
    assert choose([dull], virtual(), threshold=2.0, cost=CostModel(), most=9)[0] == []


def test_a_smaller_cell_that_says_the_same_comes_first() -> None:
    large, small = cell("large", 50.0, atoms=200), cell("small", 50.0, atoms=60)
    chosen, _ = choose([large, small], virtual(), threshold=2.0, cost=CostModel(1e-3), most=9)
    assert [(c.name, c.seconds) for c in chosen] == [("small", pytest.approx(216.0))]


def test_never_more_than_wanted() -> None:
    cells = [cell(str(seed), 90.0, seed=seed) for seed in range(5)]
    chosen, _ = choose(cells, virtual(), threshold=2.0, cost=CostModel(), most=2)
    assert len(chosen) == 2
    assert choose(cells, virtual(), threshold=2.0, cost=CostModel(), most=0)[0] == []


def test_the_first_choice_has_the_largest_gain_per_second() -> None:
    cells = [cell(str(seed), 30.0 + 5 * seed, seed=seed, atoms=40 + 10 * seed) for seed in range(6)]
    rates = {c.name: virtual().gain(c.rows) / c.n_atoms**3 for c in cells}
    chosen, _ = choose(cells, virtual(), threshold=2.0, cost=CostModel(), most=1)
    assert chosen[0].name == max(rates, key=rates.__getitem__)


def test_the_prefactor_is_the_median_of_what_was_measured() -> None:
    cost = CostModel.learned([(10, 1.0), (20, 16.0), (10, 1e6), (0, 3.0)])
    assert cost.prefactor == pytest.approx(2e-3)
    assert cost.seconds(100) == pytest.approx(2000.0)
    assert CostModel.learned([]).seconds(3) == 27.0


@pytest.fixture
def crystal() -> Atoms:
    atoms = bulk("Al", cubic=True) * (5, 5, 5)
    atoms.arrays["gamma"] = np.full(len(atoms), 0.5)
    return atoms


def test_regions_are_local_maxima_farther_apart_than_the_distance(crystal: Atoms) -> None:
    distances = crystal.get_distances(0, range(len(crystal)), mic=True)
    near, far = int(np.argsort(distances)[1]), int(np.argmax(distances))
    gamma = crystal.arrays["gamma"]
    gamma[0], gamma[near], gamma[far] = 9.0, 8.0, 7.0
    assert distances[far] > 6.0
    assert distinct_regions(crystal, apart=4.0, threshold=5.0, most=9) == [0, far]
    assert distinct_regions(crystal, apart=4.0, threshold=5.0, most=1) == [0]
    assert distinct_regions(crystal, apart=4.0, threshold=7.5, most=9) == [0]
    assert distinct_regions(crystal, apart=1.0, threshold=5.0, most=9) == [0, near, far]
    assert distinct_regions(crystal, apart=4.0, threshold=10.0, most=9) == []


def test_a_shoulder_is_no_region(crystal: Atoms) -> None:
    """Beyond the distance from the peak, but downhill all the way."""
    distances = crystal.get_distances(0, range(len(crystal)), mic=True)
    crystal.arrays["gamma"] = 20.0 - distances
    assert distinct_regions(crystal, apart=3.0, threshold=5.0, most=9) == [0]


def test_equal_atoms_are_one_region_and_not_a_number_is_the_worst(crystal: Atoms) -> None:
    crystal.arrays["gamma"][:] = 6.0
    # The first atom is nobody's neighbour with a smaller index; every other one within reach of it is beaten.
    assert distinct_regions(crystal, apart=15.0, threshold=5.0, most=9) == [0]
    crystal.arrays["gamma"][17] = np.nan
    assert distinct_regions(crystal, apart=4.0, threshold=5.0, most=1) == [17]


def test_periods_count(crystal: Atoms) -> None:
    """Two atoms at opposite faces are neighbours."""
    gamma, edge = crystal.arrays["gamma"], crystal.cell[0, 0]
    other = int(np.argmin(np.abs(crystal.positions - [edge - 2.025, 2.025, 0.0]).sum(axis=1)))
    gamma[0], gamma[other] = 9.0, 8.0
    assert crystal.get_distance(0, other, mic=True) < 3.0 < crystal.get_distance(0, other)
    assert distinct_regions(crystal, apart=3.0, threshold=5.0, most=9) == [0]
