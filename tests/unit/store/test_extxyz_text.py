"""Frames as extended XYZ: the same text as ASE's, made faster."""

from __future__ import annotations

import io

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from mlip_autopipec.store.extxyz import text_of


def moving(scale: float = 1.0) -> Atoms:
    rng = np.random.default_rng(1)
    atoms = bulk("AlN", "zincblende", a=4.4, cubic=True).repeat(2)
    atoms.positions += rng.normal(scale=50.0, size=atoms.positions.shape)
    atoms.set_momenta(rng.normal(scale=scale, size=(len(atoms), 3)))
    atoms.arrays["gamma"] = rng.uniform(0, 5, len(atoms))
    forces = rng.normal(scale=[1e-9, 1e-3, 1e3], size=(len(atoms), 3))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.25, forces=forces, stress=rng.normal(size=6))
    atoms.info.update(step=1234, walker="w00", version="v0007")
    return atoms


def of_ase(atoms: Atoms) -> str:
    text = io.StringIO()
    ase.io.write(text, atoms, format="extxyz")
    return text.getvalue()


def test_it_is_the_text_of_ase() -> None:
    assert text_of(moving()).decode() == of_ase(moving())


@pytest.mark.parametrize("strange", ["huge", "infinite", "text", "whole numbers", "constraint"])
def test_what_has_other_columns_is_left_to_ase(strange) -> None:
    atoms = moving(1e9 if strange == "huge" else 1.0)
    if strange == "infinite":
        atoms.arrays["gamma"][3] = np.inf
    elif strange == "text":
        atoms.arrays["kind"] = np.array(["a"] * len(atoms))
    elif strange == "whole numbers":
        atoms.set_tags(range(len(atoms)))
    elif strange == "constraint":
        atoms.set_constraint(FixAtoms([1]))
    assert text_of(atoms).decode() == of_ase(atoms)


def test_ase_reads_it_back() -> None:
    atoms = moving()
    back = ase.io.read(io.StringIO((text_of(atoms) * 2).decode()), format="extxyz", index=":")
    assert len(back) == 2
    assert back[1].get_chemical_symbols() == atoms.get_chemical_symbols()
    assert np.abs(back[1].positions - atoms.positions).max() < 1e-8
    assert np.abs(back[1].get_momenta() - atoms.get_momenta()).max() < 1e-8
    assert np.abs(back[1].get_forces() - atoms.get_forces()).max() < 1e-8
    assert np.abs(back[1].get_stress() - atoms.get_stress()).max() < 1e-12
    assert (back[1].info["step"], back[1].info["version"]) == (1234, "v0007")
    assert back[1].pbc.all()
