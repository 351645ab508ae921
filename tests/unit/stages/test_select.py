"""Which structures are picked: strata by their shares, and what covers most."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.core.errors import ConfigError, DataError
from mlip_autopipec.core.shares import divided
from mlip_autopipec.sampling.soap.descriptor import Soap
from mlip_autopipec.sampling.soap.settings import SoapSettings
from mlip_autopipec.stages.exploration import exploration_tasks, settings_of
from mlip_autopipec.stages.select import quotas, select_structures

NOW = "2026-01-01T00:00:00Z"


def test_divided_sums_up_and_leaves_nobody_out() -> None:
    assert divided(10, {"a": 1.0, "b": 1.0, "c": 0.0}) == {"a": 5, "b": 5}
    assert divided(10, {"rare": 1e-6, "much": 1.0}) == {"much": 9, "rare": 1}
    assert divided(7, {"b": 1.0, "a": 1.0, "c": 1.0}) == {"a": 3, "b": 2, "c": 2}
    assert sum(divided(2, {"a": 1.0, "b": 1.0, "c": 1.0}).values()) == 2
    assert divided(3, {}) == {}


def test_quotas_lie_between_equal_and_proportional() -> None:
    strata = ["much"] * 900 + ["rare"] * 100
    assert quotas(strata, 40, None) == {"much": 30, "rare": 10}
    assert quotas(strata, 40, {"much": 1.0, "rare": 1.0}) == {"much": 20, "rare": 20}
    assert quotas(strata, 40, {"rare": 1.0}) == {"much": 0, "rare": 40}
    # What a stratum has not, the others give; what nobody has, nobody gives.
    assert quotas(strata, 400, {"much": 1.0, "rare": 1.0}) == {"much": 300, "rare": 100}
    assert quotas(strata, 5000, None) == {"much": 900, "rare": 100}


@pytest.fixture(scope="module")
def pool() -> tuple[list[Atoms], list[str]]:
    """Sixty warm crystals, two kinds of rare ones."""
    rng, atoms, strata = np.random.default_rng(0), [], []
    for number in range(66):
        cell = bulk("Cu", a=3.61, cubic=True)
        kind = "crystal" if number < 60 else "squeezed"
        if kind == "squeezed":
            cell.set_cell(cell.cell * (0.92 if number % 2 else 0.85), scale_atoms=True)
        cell.positions += rng.normal(scale=0.05, size=(4, 3))
        atoms.append(cell)
        strata.append(kind)
    return atoms, strata


def test_picks_cover_more_than_random_ones_and_keep_the_quotas(pool: tuple[list[Atoms], list[str]]) -> None:
    atoms, strata = pool
    soap = Soap(SoapSettings(("Cu",), n_max=4, l_max=3), threads=1)
    found = select_structures(atoms, soap, sizes=[4] * 66, strata=strata, n_picks=8, seed=1)
    kinds = [strata[place] for place in found.picks]
    assert len(set(found.picks.tolist())) == 8
    assert kinds.count("squeezed") == quotas(strata, 8, None)["squeezed"] == 2
    # Both kinds of squeezed cells.
    assert {int(place) % 2 for place in found.picks if place >= 60} == {0, 1}
    assert found.coverage > found.random
    assert found.means.shape == (66, found.means.shape[1])
    again = select_structures(atoms, soap, sizes=[4] * 66, strata=strata, n_picks=8, seed=1)
    assert np.array_equal(again.picks, found.picks)


def test_sizes_that_are_not_those_of_the_pool_are_refused(pool: tuple[list[Atoms], list[str]]) -> None:
    atoms, strata = pool
    soap = Soap(SoapSettings(("Cu",), n_max=2, l_max=1), threads=1)
    with pytest.raises(DataError, match="environments"):
        select_structures(atoms, soap, sizes=[5] * 66, strata=strata, n_picks=3)
    with pytest.raises(DataError, match="0 of"):
        select_structures(atoms, soap, sizes=[4] * 66, strata=strata, n_picks=0)


def seeds() -> list[Atoms]:
    crystal, dimer = bulk("Cu", cubic=True), Atoms("Cu2", [[0, 0, 0], [0, 0, 2.2]])
    cluster = Atoms("Cu4", [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0], [0, 0, 2.5]])
    found = [crystal, crystal * (1, 1, 2), dimer, cluster]
    for atoms, kind in zip(found, ("bulk", "bulk", "dimer", "cluster"), strict=True):
        atoms.info["config_type"] = kind
    return found


def trajectories(**changes: object) -> list[dict[str, object]]:
    settings: dict[str, object] = {
        "temperatures": [300.0, 900.0], "pressures_bar": [0.0], "steps": 10, "stride": 5, "timestep_fs": 1.0,
        "trajectories": 8, "shares": None, "seed": 1, "created": NOW,
    }  # fmt: skip
    tasks = exploration_tasks(seeds(), {"kind": "emt"}, **{**settings, **changes})  # type: ignore[arg-type]
    return [{"kind": task.config_type, "id": task.id, **settings_of(task)} for task in tasks]


def test_trajectories_are_spread_over_kinds_seeds_and_conditions() -> None:
    found = trajectories()
    kinds = [line["kind"] for line in found]
    assert (kinds.count("bulk"), kinds.count("cluster"), kinds.count("dimer")) == (5, 3, 0)
    assert {line["number"] for line in found} == {0, 1, 3}
    bulk_ones = [(line["temperature"], line["pressure_bar"]) for line in found if line["kind"] == "bulk"]
    assert len(set(bulk_ones)) >= 3
    # A cluster has no pressure.
    assert {line["pressure_bar"] for line in found if line["kind"] == "cluster"} == {None}
    assert len({line["id"] for line in found}) == 8
    assert trajectories() == found


def test_conditions_go_on_from_kind_to_kind() -> None:
    found = trajectories(trajectories=12, pressures_bar=[0.0, 1e4], shares={"bulk": 1.0})
    conditions = [(line["temperature"], line["pressure_bar"]) for line in found]
    assert len(set(conditions[:6])) == 6  # the whole grid
    assert {line["temperature"] for line in found if line["number"] == 0} == {300.0, 900.0}
    few = trajectories(trajectories=2)
    assert [line["kind"] for line in few] == ["bulk", "cluster"]
    assert [line["temperature"] for line in few] == [300.0, 900.0]


def test_shares_decide_and_what_no_seed_is_of_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    kinds = [line["kind"] for line in trajectories(shares={"cluster": 1.0, "dimer": 5.0})]
    assert kinds == ["cluster"] * 8
    assert not caplog.text
    assert [line["kind"] for line in trajectories(shares={"cluster": 1.0, "slab": 1.0})] == ["cluster"] * 8
    assert "no seed is of slab" in caplog.text
    with pytest.raises(ConfigError, match=r"explore\.shares\.slab"):
        trajectories(shares={"slab": 1.0})
