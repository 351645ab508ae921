"""Properties by EMT itself: they agree with each other, and with what is known."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.spacegroup import crystal as crystal_of

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.properties.compression import equation_of_state, lattice
from mlip_autopipec.properties.crystal import heights, is_cubic, reference_crystal, supercell
from mlip_autopipec.properties.defects import swaps
from mlip_autopipec.properties.elastic import cubic_average, elastic_constants, hill_moduli
from mlip_autopipec.properties.melting import melting_guess
from mlip_autopipec.properties.phonons import phonons
from mlip_autopipec.properties.relaxation import relax_cell
from mlip_autopipec.properties.surfaces import surface_energies
from mlip_autopipec.properties.validation import Demand, pure_energies, validate


def cu3au() -> Atoms:
    return crystal_of(("Au", "Cu"), [(0, 0, 0), (0.5, 0.5, 0)], spacegroup=221, cellpar=[3.75] * 3 + [90] * 3)


def test_cubic_average_is_over_what_symmetry_makes_equal():
    c = np.zeros((6, 6))
    c[:3, :3] = 120
    c[np.arange(3), np.arange(3)] = [160, 170, 180]
    c[[3, 4, 5], [3, 4, 5]] = [70, 75, 80]
    assert cubic_average(c) == (170, 120, 75)
    copper = np.zeros((6, 6))  # 168.4, 121.4, 75.4 GPa: bulk modulus 137, shear moduli 54.6 (Voigt) and 40.0 (Reuss)
    copper[:3, :3] = 121.4
    copper[np.arange(6), np.arange(6)] = [168.4] * 3 + [75.4] * 3
    bulk_modulus, shear = hill_moduli(copper)
    assert bulk_modulus == pytest.approx(137.07, abs=0.01)
    assert shear == pytest.approx((54.64 + 40.03) / 2, abs=0.05)


def test_bulk_modulus_is_the_same_by_strains_and_by_volumes():
    relaxed = relax_cell(reference_crystal("Cu"), EMT())
    constants = elastic_constants(relaxed, EMT())
    assert set(constants.values) == {"C11", "C12", "C44", "bulk modulus", "shear modulus", "lowest eigenvalue"}
    by_volume = equation_of_state(relaxed, EMT()).values["bulk modulus"].number
    assert constants.values["bulk modulus"].number == pytest.approx(by_volume, rel=0.03)
    assert constants.curves["asymmetry"] < 0.5
    assert set(lattice(relaxed).values) == {"a", "volume"}


def test_a_crystal_that_is_not_cubic_has_all_its_constants():
    relaxed = relax_cell(bulk("Ni", "hcp", a=2.48, c=4.05), EMT())
    found = elastic_constants(relaxed, EMT())
    values = {name: value.number for name, value in found.values.items()}
    assert not is_cubic(relaxed)
    assert values["C11"] == pytest.approx(values["C22"], rel=0.02)
    assert values["C66"] == pytest.approx((values["C11"] - values["C12"]) / 2, rel=0.05)  # as in every hexagonal one
    assert values["C33"] > values["C13"] > 0
    assert set(lattice(relaxed).values) == {"a", "c", "volume"}


def test_ordered_alloys_dislike_exchanges_and_metals_take_solutes():
    relaxed = relax_cell(cu3au(), EMT())
    assert swaps(relaxed, EMT(), 7.0).values["Au and Cu exchanged"].number > 0
    demand = Demand(("solutes", "swaps", "surfaces", "vacancy"), 7.0)
    pure = pure_energies({e: reference_crystal(e) for e in ("Au", "Cu")}, EMT())
    found = validate(reference_crystal("Cu"), EMT(), demand, pure=pure)
    assert set(found.found) == {"solutes", "surfaces", "vacancy"}
    assert abs(found.found["solutes"].values["Au in Cu"].number) < 0.2  # EMT: 0.05 eV
    compound = validate(cu3au(), EMT(), demand)
    assert set(compound.found) == {"swaps"}


def test_surfaces_of_fcc_metals_are_ordered():
    relaxed = relax_cell(reference_crystal("Cu"), EMT())
    faces = {name: value.number for name, value in surface_energies(relaxed, EMT()).values.items()}
    assert faces["111"] < faces["100"] < faces["110"]
    assert 0.5 < faces["111"] < 3.0


def test_phonons_have_three_acoustic_branches():
    relaxed = relax_cell(reference_crystal("Cu"), EMT())
    curves = phonons(relaxed, EMT(), 7.0).curves
    bands = np.asarray(curves["bands"])
    assert bands.shape[1] == 3
    assert np.abs(bands[0]).max() < 0.01  # the path begins at Gamma
    assert bands.min() > -0.05
    assert curves["labels"][0] == "G"
    dos, at = np.asarray(curves["dos"]), np.asarray(curves["dos_frequencies"])
    assert np.trapezoid(dos, at) == pytest.approx(3, rel=0.05)


def test_what_fails_is_told_and_stops_nothing():
    def boils(*_):
        raise DataError("falls apart")

    import mlip_autopipec.properties.validation as module

    before, module.equation_of_state = module.equation_of_state, boils
    try:
        found = validate(reference_crystal("Al"), EMT(), Demand(("eos", "lattice")))
    finally:
        module.equation_of_state = before
    assert found.failed == {"eos": "falls apart"}
    assert set(found.found) == {"lattice"}


def test_cells_are_large_enough():
    assert min(heights(supercell(bulk("Al"), 10.0))) >= 10.0
    assert melting_guess(16.6, 76.0) == pytest.approx(933, rel=0.1)  # aluminium
    assert melting_guess(11.8, 137.0) == pytest.approx(1358, rel=0.1)  # copper
    with pytest.raises(DataError, match="--structure"):
        reference_crystal("Mn")
