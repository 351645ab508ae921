"""Seeds of twelve compositions of different kinds: sane, of all types, different, reproducible (issue 8)."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.stages.policy import plan
from mlip_autopipec.structures.seeds.checks import CLOSEST, CLOSEST_OF_CLUSTERS, Distinct
from mlip_autopipec.structures.seeds.contacts import closeness
from mlip_autopipec.structures.seeds.generator import Seeds, generate, start_structure
from mlip_autopipec.structures.seeds.material import Material, of_formula

COMPOSITIONS = ("Al", "Si", "NaCl", "Fe", "Al2Cu", "CuAu", "TiO2", "MgO", "LiF", "W", "SiC", "CoCrFeNi")
EVERY = {
    "bulk", "eos", "shear", "rattle", "vacancy", "interstitial", "surface", "stacking_fault", "dimer", "trimer",
    "liquid",
}  # fmt: skip
ALLOYS = ("Al2Cu", "CuAu", "CoCrFeNi")


@cache
def material(formula: str) -> Material:
    return of_formula(formula)


@cache
def wanted(formula: str) -> int:
    return 48 + 24 * (len(material(formula).elements) - 1)


@cache
def seeds(formula: str) -> Seeds:
    return generate(material(formula), plan(material(formula)).counts(wanted(formula)), 1)


def same(a: Atoms, b: Atoms) -> bool:
    return (
        a.info == b.info
        and np.array_equal(a.numbers, b.numbers)
        and np.array_equal(a.positions, b.positions)
        and np.array_equal(a.cell[:], b.cell[:])
        and np.array_equal(a.pbc, b.pbc)
    )


@pytest.mark.parametrize("formula", COMPOSITIONS)
def test_all_listed_types_are_there(formula: str) -> None:
    several = {"antisite"} if len(material(formula).elements) > 1 else set()
    mixed = {"sqs"} if formula in ALLOYS else set()
    counts = seeds(formula).counts()
    assert set(counts) == EVERY | several | mixed
    assert wanted(formula) * 0.9 <= sum(counts.values()) <= wanted(formula)


@pytest.mark.parametrize("formula", COMPOSITIONS)
def test_atoms_are_apart_and_as_dense_as_matter(formula: str) -> None:
    """Looked at anew, by ASE: distances beside covalent radii, densities beside that of the crystal."""
    from ase.data import covalent_radii

    volume = material(formula).volume_per_atom
    for atoms in seeds(formula).frames:
        kind = atoms.info["config_type"]
        images = atoms.repeat([2 if p else 1 for p in atoms.pbc])
        distances = images.get_all_distances(mic=True) + 1e3 * np.eye(len(images))
        radii = covalent_radii[images.numbers]
        nearest = (distances / (radii[:, None] + radii)).min()
        assert nearest >= (CLOSEST_OF_CLUSTERS if kind in ("dimer", "trimer") else CLOSEST)
        assert nearest == pytest.approx(min(closeness(atoms), nearest), abs=1e-6)
        if atoms.pbc.all():
            assert 0.5 < atoms.get_volume() / len(atoms) / volume < 1.7
        assert len(atoms) <= 41


@pytest.mark.parametrize("formula", COMPOSITIONS)
def test_most_cells_are_small_enough_for_dft(formula: str) -> None:
    sizes = [len(atoms) for atoms in seeds(formula).frames]
    assert np.median(sizes) <= 32
    assert np.mean(sizes) <= 24


@pytest.mark.parametrize("formula", COMPOSITIONS)
def test_no_two_are_alike_and_all_are_numbered(formula: str) -> None:
    distinct = Distinct()
    for number, atoms in enumerate(seeds(formula).frames):
        assert distinct.is_new(atoms), (number, atoms.info)
        assert atoms.info["seed_number"] == number


@pytest.mark.parametrize("formula", COMPOSITIONS)
def test_the_same_seed_gives_the_same_structures(formula: str) -> None:
    again = generate(of_formula(formula), plan(of_formula(formula)).counts(wanted(formula)), 1)
    assert len(again.frames) == len(seeds(formula).frames)
    assert all(same(a, b) for a, b in zip(again.frames, seeds(formula).frames, strict=True))


def test_another_seed_gives_other_rattles_and_the_same_volumes() -> None:
    counts = {"eos": 4, "rattle": 4}
    one, two = (generate(material("Al"), counts, seed).frames for seed in (1, 2))
    assert all(same(a, b) for a, b in zip(one[:4], two[:4], strict=True))
    assert not any(same(a, b) for a, b in zip(one[4:], two[4:], strict=True))


def test_more_of_one_type_changes_no_other() -> None:
    few = generate(material("Al"), {"rattle": 3, "liquid": 2}, 1).frames
    more = generate(material("Al"), {"rattle": 3, "vacancy": 2, "liquid": 2}, 1).frames
    for a, b in zip(few, [*more[:3], *more[5:]], strict=True):
        assert np.array_equal(a.positions, b.positions)


@pytest.mark.parametrize("formula", ["NaCl", "MgO", "TiO2", "LiF"])
def test_point_defects_of_ionic_crystals_keep_the_formula(formula: str) -> None:
    for atoms in seeds(formula).frames:
        if atoms.info["config_type"] in ("vacancy", "interstitial", "antisite", "surface", "liquid"):
            assert of_formula(str(atoms.symbols.formula)).counts == material(formula).counts


@pytest.mark.parametrize("formula", ["Al2Cu", "CuAu", "CoCrFeNi"])
def test_mixtures_have_the_composition(formula: str) -> None:
    mixed = [a for a in seeds(formula).frames if a.info["config_type"] == "sqs"]
    assert mixed
    for atoms in mixed:
        assert of_formula(str(atoms.symbols.formula)).counts == material(formula).counts


def test_a_quasirandom_structure_is_mixed_better_than_an_ordered_one() -> None:
    """Share of unlike nearest neighbours in CuAu: one half as at random; two thirds in L1_0."""
    from mlip_autopipec.structures.seeds.contacts import pairs
    from mlip_autopipec.structures.seeds.mixtures import solid_solution

    def unlike(atoms: Atoms) -> float:
        length = pairs(atoms, 4.0)[2].min()
        first, second, _ = pairs(atoms, 1.1 * length)
        return float((atoms.numbers[first] != atoms.numbers[second]).mean())

    lattice = material("CuAu").lattices[0]
    assert lattice.name == "fcc"
    assert unlike(solid_solution(lattice, {"Cu": 1, "Au": 1}, 16, 1)) == pytest.approx(0.5, abs=0.05)
    assert unlike(material("CuAu").prototypes[0].primitive()) > 0.6


def test_without_icet_the_best_of_many_random_mixtures_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlip_autopipec.structures.seeds import mixtures

    def missing() -> None:
        raise ImportError

    monkeypatch.setattr(mixtures, "_icet", missing)
    made = generate(material("CuAu"), {"sqs": 4}, 1)
    assert made.counts() == {"sqs": 4}
    assert any("icet" in note and "pip install" in note for note in made.notes)


def test_a_stacking_fault_of_fcc_costs_little_and_is_one() -> None:
    """By EMT copper: far below a surface, above the crystal; half a plane of hcp beside it."""
    from ase.calculators.emt import EMT

    fault = generate(material("Cu"), {"stacking_fault": 1}, 1).frames[0]
    perfect = material("Cu").prototypes[0].atoms.copy()
    fault.calc, perfect.calc = EMT(), EMT()
    area = np.linalg.norm(np.cross(fault.cell[0], fault.cell[1]))
    crystal = perfect.get_potential_energy() / len(perfect)
    energy = (fault.get_potential_energy() - len(fault) * crystal) / area
    assert 0.0 < energy < 0.02  # eV/A^2; a surface of EMT copper has 0.06


@pytest.mark.parametrize("formula", COMPOSITIONS)
def test_md_starts_from_a_compact_supercell(formula: str) -> None:
    atoms = start_structure(material(formula), 1)
    assert 100 <= len(atoms) <= 260
    assert atoms.cell.lengths().min() > 11.0
    assert set(atoms.get_chemical_symbols()) == set(material(formula).elements)
