"""Design rows are derivatives of the energy and equal python-ace's; what is written reads back as the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from mlip_autopipec.ace import AceBasis, ACECalculator, load_potential
from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.fitting import blank
from mlip_autopipec.ace.formats.yaml_reading import read_yaml
from mlip_autopipec.ace.formats.yaml_writing import write_yaml
from mlip_autopipec.ace.generator import BasisRecipe, FunctionLimits, RadialSettings, standard_configuration
from mlip_autopipec.ace.records import Configuration
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.engines.pacemaker.basis import PyaceBasis, read_basis
from mlip_autopipec.engines.pacemaker.evaluator import PyaceEvaluator
from random_potentials import Choice, random_configuration, random_structure


def configuration(inner: str = "density") -> Configuration:
    functions = {"UNARY": FunctionLimits((5, 3, 2, 1), (0, 3, 2, 1)), "BINARY": FunctionLimits((4, 2, 1), (0, 2, 1))}
    settings = {
        "ALL": RadialSettings(5.0, inner_cutoff_type=inner),
        "Al Ni": RadialSettings(4.2, "SBessel", inner_cutoff_type=inner),
    }
    return standard_configuration(BasisRecipe(("Al", "Ni"), functions, settings))


@pytest.fixture(scope="module")
def basis() -> AceBasis:
    return AceBasis(configuration())


@pytest.fixture(params=[0, 1, 2, 3])
def atoms(request: pytest.FixtureRequest) -> Atoms:
    """Periodic, partly periodic and open structures."""
    made = random_structure(request.param, ("Al", "Ni"), n_atoms=7)
    made.pbc = [(True, True, True), (True, True, False), (False, True, False), (False, False, False)][request.param]
    return made


def test_rows_are_derivatives_of_the_energy_row(basis: AceBasis, atoms: Atoms) -> None:
    design, step, rng = basis.design(atoms), 1e-4, np.random.default_rng(0)
    assert design.forces.shape == (len(atoms), 3, basis.n_coefficients)
    assert design.virial.shape == (6, basis.n_coefficients)

    def slope(moved) -> np.ndarray:
        rows = {k: basis.design(moved(k * step)).energy for k in (-2, -1, 1, 2)}
        return (8 * (rows[1] - rows[-1]) - (rows[2] - rows[-2])) / (12 * step)

    direction = rng.normal(size=(len(atoms), 3))
    strain = rng.normal(size=(3, 3))
    strain += strain.T

    def shifted(s: float) -> Atoms:
        copy = atoms.copy()
        copy.positions += s * direction
        return copy

    def strained(s: float) -> Atoms:
        copy = atoms.copy()
        copy.set_cell(atoms.cell.array @ (np.eye(3) + s * strain))
        copy.positions = atoms.positions @ (np.eye(3) + s * strain)
        return copy

    expected = -np.einsum("ik,ikc->c", direction, design.forces)
    np.testing.assert_allclose(slope(shifted), expected, rtol=1e-6, atol=1e-6)
    shear = [2 * strain[i, j] for i, j in ((1, 2), (0, 2), (0, 1))]
    voigt = np.array([*np.diagonal(strain), *shear])
    np.testing.assert_allclose(slope(strained), -voigt @ design.virial, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("python_ace")
def test_rows_are_those_of_python_ace_and_of_the_evaluator(basis: AceBasis, atoms: Atoms, tmp_path: Path) -> None:
    coefficients = np.random.default_rng(1).normal(size=basis.n_coefficients)
    basis.write(coefficients, {"Al": -1.0, "Ni": 2.0}, tmp_path)
    theirs = PyaceBasis(read_basis(tmp_path / "potential.yaml"), neighbourhood)
    mine, other = basis.design(atoms), theirs.design(atoms)
    assert list(theirs.ranks) == list(basis.ranks)
    np.testing.assert_array_equal(theirs.coefficients, coefficients)
    np.testing.assert_allclose(mine.energy, other.energy, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(mine.forces, other.forces, rtol=1e-8, atol=1e-8)
    for element, (members, values) in mine.projections.items():
        assert members.tolist() == other.projections[element][0].tolist()
        np.testing.assert_allclose(values, other.projections[element][1], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(basis.projections(atoms)[element][1], values, rtol=1e-8, atol=1e-8)
    frame = neighbourhood(atoms, basis.cutoff, basis.elements)
    found = PyaceEvaluator(tmp_path / "potential.yaml").evaluate(frame)
    assert mine.energy @ coefficients == pytest.approx(found.energy, rel=1e-9)
    np.testing.assert_allclose(mine.forces @ coefficients, found.forces, rtol=0, atol=1e-8 * np.abs(found.forces).max())
    np.testing.assert_allclose(mine.virial @ coefficients, found.virial, rtol=0, atol=1e-8 * np.abs(found.virial).max())


def test_what_is_written_reads_back(basis: AceBasis, atoms: Atoms, tmp_path: Path) -> None:
    coefficients = np.random.default_rng(2).normal(size=basis.n_coefficients)
    energies = {"Al": -1.25, "Ni": 0.1}
    basis.write(coefficients, energies, tmp_path)
    again = AceBasis(read_yaml(tmp_path / "potential.yaml"))
    np.testing.assert_array_equal(again.coefficients, coefficients)
    assert load_potential(tmp_path / "potential.yace").isolated_energies.tolist() == [-1.25, 0.1]
    plain, full = (ACECalculator(tmp_path / f"potential.{s}", threads=1) for s in ("yaml", "yace"))
    isolated = sum(energies[symbol] for symbol in atoms.symbols)
    expected = basis.design(atoms).energy @ coefficients
    assert plain.get_potential_energy(atoms) == pytest.approx(expected, rel=1e-9)
    assert full.get_potential_energy(atoms) == pytest.approx(expected + isolated, rel=1e-9)
    theirs = PyaceEvaluator(tmp_path / "potential.yace").evaluate(neighbourhood(atoms, basis.cutoff, basis.elements))
    assert theirs.energy == pytest.approx(expected + isolated, rel=1e-9)


def test_designs_come_one_by_one(basis: AceBasis) -> None:
    frames = [random_structure(seed, ("Al",), n_atoms=3) for seed in range(3)]
    found = basis.designs(frames)
    for atoms in frames:
        np.testing.assert_array_equal(next(found).energy, basis.design(atoms).energy)
    # Nothing of the element that is not there.
    assert set(basis.design(frames[0]).projections) == {"Al"}


def test_write_refuses(basis: AceBasis, tmp_path: Path) -> None:
    good, energies = np.ones(basis.n_coefficients), {"Al": 0.0, "Ni": 0.0}
    for coefficients in (good[1:], np.append(good[1:], np.nan)):
        with pytest.raises(ModelError, match="finite ones are needed"):
            basis.write(coefficients, energies, tmp_path)
    with pytest.raises(ModelError, match="Ni"):
        basis.write(good, {"Al": 0.0}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_not_linear_is_refused() -> None:
    linear = configuration()
    first = linear.blocks[0]
    for block, word in (
        (replace(first, embedding=replace(first.embedding, parameters=(1.0, 0.5))), "not linear"),
        (replace(first, embedding=replace(first.embedding, parameters=(1.0, 1.0, 1.0, 1.0))), "2 densities"),
        (replace(first, bond=replace(first.bond, prehc=1.0)), "core repulsion"),
        (replace(first, bond=replace(first.bond, inner_cutoff_type="zbl", r_in=1.0)), "core repulsion"),
    ):
        with pytest.raises(ModelError, match=word):
            AceBasis(replace(linear, blocks=(block, *linear.blocks[1:])))


def test_blank_keeps_the_functions_between_the_elements(tmp_path: Path) -> None:
    whole = random_configuration(Choice(4, n_elements=3))
    part = blank(whole, ["Ni", "Al"])
    assert part.elements == ("Al", "Ni")
    assert {b.elements for b in part.blocks} == {("Al",), ("Ni",), ("Al", "Ni"), ("Ni", "Al")}
    assert {c for b in part.blocks for f in b.functions for c in f.coefficients} == {0.0}
    write_yaml(part, tmp_path / "p.yaml")
    assert make_basis(read_yaml(tmp_path / "p.yaml")).elements == ("Al", "Ni")
    with pytest.raises(ModelError, match="O"):
        blank(whole, ["Al", "O"])
