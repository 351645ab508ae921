"""Potential files of LAMMPS as a calculator of ASE: published energies, forces as derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.engines.lammps.reference import LammpsFile, file_for


def test_stillinger_weber_silicon() -> None:
    """Cohesive energy 4.3366 eV at 5.431 A (doi:10.1103/PhysRevB.31.5262 as parametrised in LAMMPS' file)."""
    found = file_for(["Si"])
    assert found is not None
    atoms = bulk("Si", a=5.431, cubic=True)
    atoms.calc = LammpsFile(found.pair_style, found.file, ["Si"])
    assert atoms.get_potential_energy() / len(atoms) == pytest.approx(-4.3366, abs=1e-3)
    atoms.positions[0] += (0.1, -0.05, 0.07)
    force = atoms.get_forces()[0, 0]
    energies = []
    for step in (1e-4, -2e-4):
        atoms.positions[0, 0] += step
        energies.append(atoms.get_potential_energy())
    assert force == pytest.approx((energies[1] - energies[0]) / 2e-4, abs=1e-4)
    assert np.allclose(atoms.get_forces().sum(axis=0), 0, atol=1e-9)


def test_the_file_for_the_fewest_elements_and_none_for_others() -> None:
    assert file_for(["C", "Si"]) is not None
    assert file_for(["Li", "F"]) is None
    with pytest.raises(ConfigError, match=r"nothing\.eam"):
        LammpsFile("eam/fs", "nothing.eam", ["Fe"])
