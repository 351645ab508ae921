"""Plans of the walkers, and the atom that is asked about."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.stages.watch import OtfSettings, WalkerOverrides, most_uncertain_atom, walker_plans


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
