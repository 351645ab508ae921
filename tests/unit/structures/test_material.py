"""What a formula or a crystal tells: kinds of bonds, prototypes, lattice constants."""

from __future__ import annotations

import pytest
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.structures.seeds import compounds
from mlip_autopipec.structures.seeds.generator import generate
from mlip_autopipec.structures.seeds.material import of_crystal, of_formula
from mlip_autopipec.structures.seeds.prototypes import SPACE_GROUPS
from mlip_autopipec.structures.seeds.symmetry import space_group


@pytest.mark.parametrize(
    ("formula", "kind", "prototype", "lattice_constant"),
    [
        ("Al", "metal", "fcc", 4.05),
        ("Fe", "metal", "bcc", 2.87),
        ("Mg", "metal", "hcp", 3.21),
        ("Si", "covalent", "diamond", 5.43),
        ("SiC", "covalent", "zincblende", 4.36),
        ("NaCl", "ionic", "rocksalt", 5.64),
        ("ClNa", "ionic", "rocksalt", 5.64),
        ("TiO2", "ionic", "rutile", 4.594),
        ("Li2O", "ionic", "antifluorite", 4.619),
        ("Al2O3", "ionic", "corundum", 4.759),
        ("SrTiO3", "ionic", "perovskite", 3.905),
        ("Al2Cu", "alloy", "C16", 6.067),
        ("AuCu", "alloy", "L1_0", 3.963),
        ("Cu3Au", "alloy", "L1_2", 3.748),
        ("Ar", "noble", "fcc", 5.26),
    ],
)
def test_known_crystals(formula: str, kind: str, prototype: str, lattice_constant: float) -> None:
    material = of_formula(formula)
    first = material.prototypes[0]
    assert (material.kind, first.name) == (kind, prototype)
    assert first.atoms.cell.lengths()[0] == pytest.approx(lattice_constant, abs=0.005)
    assert space_group(first.atoms) == SPACE_GROUPS[prototype][0]
    assert of_formula(str(first.atoms.symbols.formula)).counts == material.counts


@pytest.mark.parametrize(
    ("formula", "bond"), [("RbF", 2.82), ("ScN", 2.25), ("CaSe", 2.96), ("EuO", None), ("GaN", 1.95), ("MgTe", None)]
)
def test_unknown_crystals_get_lattice_constants_from_radii(formula: str, bond: float | None) -> None:
    """Measured bond lengths of compounds that are in no table here (GaN is, as wurtzite), within 5 %."""
    try:
        material = of_formula(formula)
    except ConfigError:
        assert bond is None
        return
    distances = material.prototypes[0].atoms.repeat(2).get_all_distances(mic=True)
    if bond is not None:
        assert distances[distances > 0.1].min() == pytest.approx(bond, rel=0.05)


def test_every_compound_of_the_table_is_a_crystal_of_its_formula() -> None:
    for formula, (name, _) in compounds.COMPOUNDS.items():
        first = of_formula(formula).prototypes[0]
        assert first.name == name
        assert of_formula(str(first.atoms.symbols.formula)).counts == of_formula(formula).counts


def test_a_solid_solution_has_lattices_in_place_of_crystals() -> None:
    material = of_formula("CoCrFeNi")
    assert material.prototypes == ()
    assert material.lattices[0].name == "fcc"
    assert material.volume_per_atom == pytest.approx(11.4, abs=0.4)  # a = 3.57 A
    assert any("solid solution" in warning for warning in material.warnings)


@pytest.mark.parametrize(
    ("formula", "word"),
    [("Xx", "formula"), ("", "formula"), ("O", "molecules"), ("H2O", "molecules"), ("MgAl2O4", "structure file")],
)
def test_what_is_no_material_here(formula: str, word: str) -> None:
    with pytest.raises(ConfigError) as refused:
        of_formula(formula)
    assert word in f"{refused.value.message} {refused.value.hint}"


def test_a_gap_is_certain_for_salts_of_main_group_metals_only() -> None:
    assert all(of_formula(formula).is_insulating for formula in ("NaCl", "MgO", "Al2O3", "Ar"))
    assert not any(of_formula(f).is_insulating for f in ("TiN", "TiC", "ZrN", "RuO2", "TiO2", "Si", "Al", "CuAu"))
    assert of_formula("MnO").magnetic_elements == ("Mn",)


def test_a_crystal_comes_first_and_its_own_prototype_not_twice() -> None:
    material = of_crystal(bulk("Al", a=4.2), "mine.cif")
    assert [p.name for p in material.prototypes] == ["given", "hcp", "bcc"]
    assert material.volume_per_atom == pytest.approx(4.2**3 / 4)
    assert len(material.prototypes[0].atoms) == 4


def test_a_large_cell_is_taken_by_its_primitive_one_or_it_is_said() -> None:
    sites = [(0.5, 0.5, 0.5), (0, 0, 0), (0.3337, 0.125, 0.125), (0.375, 0.375, 0.375)]
    pyrochlore = crystal(("Y", "Ti", "O", "O"), sites, spacegroup=227, setting=2, cellpar=[10.1] * 3 + [90] * 3)
    assert len(pyrochlore) == 88
    material = of_crystal(pyrochlore, "mine.cif")
    assert len(material.prototypes[0].atoms) == 22
    seeds = generate(material, {"bulk": 1, "eos": 2}, 1)
    assert [frame.info["config_type"] for frame in seeds.frames].count("bulk") == 1
    shaken = bulk("Al", cubic=True).repeat(3)
    shaken.rattle(0.1, seed=1)
    assert "108 atoms in its primitive cell, of at most 64" in of_crystal(shaken, "big.cif").warnings[-1]


def test_crystals_that_cannot_be_used() -> None:
    with pytest.raises(ConfigError, match="not periodic"):
        of_crystal(Atoms("Al2", positions=[[0, 0, 0], [0, 0, 3]]), "a.xyz")
    mixed = bulk("Cu")
    mixed.info["occupancy"] = {"0": {"Cu": 0.5, "Au": 0.5}}
    with pytest.raises(ConfigError, match="partial occupancy"):
        of_crystal(mixed, "a.cif")
