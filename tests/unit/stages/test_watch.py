"""Plans of the walkers, and the atom that is asked about."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.stages.watch import (
    OtfSettings,
    SenseSettings,
    WalkerOverrides,
    most_uncertain_atom,
    spike,
    too_close,
    walker_plans,
)


def test_equal_walkers_differ_by_seed() -> None:
    plans = walker_plans(OtfSettings(walkers=3, temperature=500))
    assert [p.name for p in plans] == ["w00", "w01", "w02"]
    assert len({p.seed for p in plans}) == 3
    assert {p.temperature for p in plans} == {500}


def test_a_walker_overrides_only_what_it_names() -> None:
    otf = OtfSettings(ensemble="langevin", steps=50, walkers=(WalkerOverrides(temperature=900, steps=7),))
    (plan,) = walker_plans(otf)
    assert (plan.temperature, plan.steps, plan.ensemble) == (900, 7, "langevin")


def test_most_uncertain_atom() -> None:
    atoms = Atoms("Al3", positions=np.eye(3))
    with pytest.raises(DataError, match="no gamma"):
        most_uncertain_atom(atoms)
    atoms.arrays["gamma"] = np.array([0.5, 7.0, 3.0])
    assert most_uncertain_atom(atoms) == (1, 7.0)
    atoms.arrays["gamma"][0] = np.nan
    with pytest.raises(DataError, match="not a number"):
        most_uncertain_atom(atoms)


def test_a_schedule_gives_the_steps_unless_the_walker_says_otherwise() -> None:
    quench = {"segments": [{"steps": 30, "temperature": [300, 900]}, {"steps": 20}], "cycles": 2}
    otf = OtfSettings(steps=7, schedule=quench, walkers=[{}, {"steps": 60}, {"schedule": {"segments": [{"steps": 5}]}}])
    assert [plan.steps for plan in walker_plans(otf)] == [100, 60, 5]
    assert walker_plans(otf)[0].schedule == otf.schedule
    assert OtfSettings.model_validate(otf.model_dump(mode="json")) == otf


def test_each_walker_has_its_own_of_everything() -> None:
    own = {
        "temperature": 10, "pressure": 5, "ensemble": "npt", "seed": 9, "structure": "other.extxyz",
        "pressure_coupling": "tri", "density_bounds": [1, 2], "monte_carlo": {"every": 5, "swaps": 3},
    }  # fmt: skip
    first, second = walker_plans(OtfSettings(walkers=[own, {}]))
    assert (first.structure is not None, first.monte_carlo is not None, first.density_bounds) == (True, True, (1, 2))
    assert (first.pressure_coupling, first.pressure, first.seed) == ("tri", 5, 9)
    assert (second.structure, second.monte_carlo, second.ensemble) == (None, None, "nvt")


def frame(positions, *, force: float = 1.0, speed: float = 0.0, gamma: float = 6.0, symbols: str = "Al3") -> Atoms:
    atoms = Atoms(symbols, positions=positions, cell=[20, 20, 20], pbc=True)
    atoms.set_velocities(np.full((3, 3), speed))
    atoms.calc = SinglePointCalculator(atoms, forces=np.full((3, 3), force / np.sqrt(3)))
    atoms.arrays["gamma"] = np.array([0.1, gamma, 0.2])
    return atoms


def test_what_makes_no_sense_is_named() -> None:
    limits, apart = SenseSettings(), [[0, 0, 0], [2.5, 0, 0], [0, 2.5, 0]]
    assert too_close(frame(apart), limits) == ""
    # across the boundary: 1.1 A, half of the covalent diameter of Al is 1.21 A
    assert too_close(frame([[0.5, 0, 0], [19.4, 0, 0], [0, 5, 0]]), limits) == "atoms 0 and 1 are 1.10 A apart"
    assert too_close(frame([[0.5, 0, 0], [19.4, 0, 0], [0, 5, 0]], symbols="H3"), limits) == ""
    assert spike(frame(apart), limits, 5.0, 300.0) == ""
    assert spike(frame(apart, force=200.0), limits, 5.0, 300.0) == "the force on atom 0 is 200 eV/A"
    assert spike(frame(apart, force=np.nan), limits, 5.0, None) != ""
    assert "where the thermostat is set to 300 K" in spike(frame(apart, speed=0.5), limits, 5.0, 300.0)
    assert spike(frame(apart, speed=0.5), limits, 5.0, None) == ""
    assert spike(frame(apart, gamma=600.0), limits, 5.0, None) == "gamma is 600, far above 5"
