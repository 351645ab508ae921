"""Cells of ionic materials are neutral; metals are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.structures.embedding import extract_periodic_subsystem
from mlip_autopipec.structures.neutrality import NotNeutral, formula_of, is_ionic, surplus_of_charge


def salt(repeat: int = 4) -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (repeat, repeat, repeat)
    atoms.rattle(0.15, seed=2)
    return atoms


def perovskite() -> Atoms:
    """SrTiO3."""
    one = Atoms(
        "SrTiO3",
        scaled_positions=[(0, 0, 0), (0.5, 0.5, 0.5), (0.5, 0.5, 0), (0.5, 0, 0.5), (0, 0.5, 0.5)],
        cell=[3.9] * 3,
        pbc=True,
    )
    atoms = one * (5, 5, 5)
    atoms.rattle(0.08, seed=3)
    return atoms


@pytest.mark.parametrize(
    ("formula", "ionic"),
    [("NaCl", True), ("MgO", True), ("NiO", True), ("CuAu", False), ("AlNi", False), ("H2O", False)],
)
def test_what_looks_ionic(formula: str, ionic: bool) -> None:
    assert is_ionic(Atoms(formula).numbers) is ionic


def test_formulas_see_through_defects() -> None:
    na, cl = (11,), (17,)
    assert formula_of([na] * 32 + [cl] * 32) == {na: 1, cl: 1}
    assert formula_of([na] * 32 + [cl] * 31) == {na: 1, cl: 1}
    assert formula_of([(22,)] * 40 + [(8,)] * 80) == {(8,): 2, (22,): 1}
    assert formula_of([(40,)] * 100 + [(8,)] * 200 + [(39,)]) is None  # one dopant: no small formula


@pytest.mark.parametrize("mode", ["box", "sphere", "snap"])
@pytest.mark.parametrize("center", [0, 77, 300])
def test_salt_keeps_its_formula(mode: str, center: int) -> None:
    carved = extract_periodic_subsystem(salt(), center, 3.2, 2.1, mode)
    assert np.sum(carved.atoms.numbers == 11) == np.sum(carved.atoms.numbers == 17)
    lost = [r for r in carved.removed if r.reason == "neutrality"]
    assert all(r.collided_with is None and r.distance is None for r in lost)
    free = extract_periodic_subsystem(salt(), center, 3.2, 2.1, mode, neutral=False)
    assert len(free.atoms) == len(carved.atoms) + len(lost)
    assert np.array_equal(free.parent_indices[free.core], carved.parent_indices[carved.core])


def test_three_elements_keep_their_formula() -> None:
    carved = extract_periodic_subsystem(perovskite(), 250, 2.5, 3.0, "sphere")
    counts = [int(np.sum(carved.atoms.numbers == z)) for z in (38, 22, 8)]
    assert counts[0] > 0
    assert counts == [counts[0], counts[0], 3 * counts[0]]


@pytest.mark.parametrize("mode", ["box", "sphere"])
def test_explicit_charges_sum_to_zero(mode: str) -> None:
    atoms = perovskite()
    states = {"Sr": 2, "Ti": 4, "O": -2}
    carved = extract_periodic_subsystem(atoms, 130, 2.5, 2.7, mode, oxidation_states=states)
    assert sum(states[s] for s in carved.atoms.get_chemical_symbols()) == 0
    with pytest.raises(DataError, match="Ti is missing"):
        extract_periodic_subsystem(atoms, 130, 2.5, 2.7, mode, oxidation_states={"Sr": 2, "O": -2})


def test_the_core_is_never_given_up() -> None:
    with pytest.raises(NotNeutral, match="buffer_size"):
        extract_periodic_subsystem(salt(), 0, 3.2, 0.0, "sphere")  # a core of one Na and six Cl
    with pytest.raises(NotNeutral, match="oxidation_states"):
        surplus_of_charge(np.array([1.0, 1.0]), np.array([0, 1]), np.array([False, True]))


def test_a_metal_loses_nothing() -> None:
    atoms = bulk("Al", cubic=True) * (5, 5, 5)
    atoms.symbols[::3] = "Cu"
    atoms.rattle(0.1, seed=1)
    assert not [r for r in extract_periodic_subsystem(atoms, 9, 3.0, 2.0).removed if r.reason == "neutrality"]


def test_unknown_formula_is_told() -> None:
    atoms = salt()
    atoms.symbols[5] = "K"
    carved = extract_periodic_subsystem(atoms, 0, 3.2, 2.1)
    assert any("oxidation_states" in w for w in carved.warnings)
