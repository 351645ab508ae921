"""ACE as an ASE calculator: gradients, gamma, projections, any boundary, errors, caching; loading of files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress

from mlip_autopipec.ace import ACECalculator, load_potential, read_asi
from mlip_autopipec.core.errors import DataError, ModelError


@pytest.fixture
def alni() -> Atoms:
    atoms = bulk("Al", cubic=True)
    atoms.symbols[1] = "Ni"
    atoms.rattle(0.1, seed=2)
    stretch = np.eye(3) + 0.05 * np.random.default_rng(0).normal(size=(3, 3))
    atoms.set_cell(atoms.cell.array @ stretch, scale_atoms=True)
    return atoms


def calculator(ace, name: str = "AlNi_fs2", path: str = "lanes", suffix: str = "yaml") -> ACECalculator:
    active_set = ace.pot(f"{name}.asi") if suffix == "yaml" else None
    return ACECalculator(ace.pot(f"{name}.{suffix}"), active_set, threads=1, path=path)


def test_gradients(ace, alni, path) -> None:
    alni.calc = calculator(ace, path=path)
    np.testing.assert_allclose(alni.get_forces(), calculate_numerical_forces(alni, eps=1e-4), atol=1e-6)
    np.testing.assert_allclose(alni.get_stress(), calculate_numerical_stress(alni, eps=1e-4), atol=1e-6)
    assert alni.get_potential_energies().sum() == pytest.approx(alni.get_potential_energy())
    assert alni.get_potential_energy(force_consistent=True) == alni.get_potential_energy()


def test_grade_and_projections_agree_with_the_evaluator(ace, alni) -> None:
    calc = calculator(ace)
    gamma = calc.get_property("gamma", alni)
    rows = calc.get_property("projections", alni)
    inverses = read_asi(ace.pot("AlNi_fs2.asi"))
    for symbol, value, row, own in zip(alni.symbols, gamma, rows, calc.projections_of(alni), strict=True):
        np.testing.assert_array_equal(own, row[: len(own)])
        assert len(own) == len(inverses[symbol])
        assert value == pytest.approx(np.abs(own @ inverses[symbol]).max(), rel=1e-6)


def test_objects_do_as_well_as_files(ace, alni) -> None:
    potential, inverses = load_potential(ace.pot("AlNi_fs2.yaml")), read_asi(ace.pot("AlNi_fs2.asi"))
    loaded, named = ACECalculator(potential, inverses, threads=1), calculator(ace)
    assert loaded.get_potential_energy(alni) == named.get_potential_energy(alni)
    np.testing.assert_array_equal(loaded.get_property("gamma", alni), named.get_property("gamma", alni))
    assert loaded.elements == ("Al", "Ni")
    assert loaded.cutoff == 5.5
    assert ACECalculator(str(ace.pot("AlNi_fs2.yace")), threads=1).get_potential_energy(alni) == pytest.approx(
        loaded.get_potential_energy(alni), rel=1e-12
    )


def test_slab_equals_a_slab_with_vacuum(ace) -> None:
    slab = fcc111("Al", (2, 2, 3), vacuum=None)
    slab.rattle(0.05, seed=1)
    wide = slab.copy()
    wide.center(vacuum=8.0, axis=2)
    wide.pbc = True
    slab.pbc = (True, True, False)
    calc = calculator(ace, "Al_SBessel")
    assert calc.get_potential_energy(slab) == pytest.approx(calc.get_potential_energy(wide), rel=1e-12)
    np.testing.assert_allclose(calc.get_forces(slab), calc.get_forces(wide), atol=1e-10)


def test_molecule_without_a_cell(ace, alni) -> None:
    dimer = Atoms("AlNi", [[0, 0, 0], [0, 0, 2.3]])
    boxed = dimer.copy()
    boxed.set_cell([20, 20, 20])
    calc = calculator(ace)
    assert calc.get_potential_energy(dimer) == pytest.approx(calc.get_potential_energy(boxed), rel=1e-13)
    assert calc.get_property("gamma", dimer).shape == (2,)
    with pytest.raises(PropertyNotImplementedError, match="no volume"):
        calc.get_stress(dimer)
    assert np.isfinite(calc.get_stress(alni)).all()


def test_what_a_file_cannot_say(ace, alni) -> None:
    calc = calculator(ace, suffix="yace")
    with pytest.raises(PropertyNotImplementedError, match="no active set"):
        calc.get_property("gamma", alni)
    with pytest.raises((PropertyNotImplementedError, ModelError), match=r"\.yaml"):
        calc.get_property("projections", alni)
    with pytest.raises(ModelError, match=r"\.yaml"):
        ACECalculator(ace.pot("AlNi_fs2.yace"), ace.pot("AlNi_fs2.asi"), threads=1)


def test_errors(ace, tmp_path: Path) -> None:
    calc = calculator(ace)
    with pytest.raises(ModelError, match=r"knows Al Ni, but .* H O"):
        calc.get_potential_energy(molecule("H2O"))
    flat = bulk("Al", cubic=True)
    flat.cell[2] = flat.cell[1]
    with pytest.raises(DataError, match="linearly dependent"):
        calc.get_potential_energy(flat)
    with pytest.raises(ValueError, match="path must be one of"):
        calculator(ace, path="roads")
    (tmp_path / "potential.txt").write_text("")
    with pytest.raises(ModelError, match=r"potential\.txt.*must end in \.yaml or \.yace"):
        load_potential(tmp_path / "potential.txt")
    for suffix in ("yaml", "yml", "yace"):
        with pytest.raises(ModelError, match="no such file"):
            load_potential(tmp_path / f"absent.{suffix}")


def test_results_are_kept_until_something_changes(ace, alni, monkeypatch) -> None:
    calc, calls = calculator(ace), []
    original = calc.evaluator.evaluate
    monkeypatch.setattr(calc.evaluator, "evaluate", lambda *a, **k: calls.append(1) or original(*a, **k))
    alni.calc = calc
    for _ in range(2):
        alni.get_potential_energy()
        alni.get_forces()
        alni.get_stress()
        calc.get_property("gamma", alni)
    assert len(calls) == 1
    before = alni.get_forces().copy()
    alni.positions[0] += 0.01
    assert not np.allclose(alni.get_forces(), before)
    alni.symbols[0] = "Ni"
    alni.get_potential_energy()
    alni.set_cell(alni.cell * 1.01)
    alni.get_potential_energy()
    alni.pbc = (True, True, False)
    alni.get_potential_energy()
    assert len(calls) == 5


def test_own_neighbours(ace, alni) -> None:
    from mlip_autopipec.core.neighbours import neighbourhood

    asked = []

    def finder(atoms, cutoff, elements):
        asked.append((cutoff, tuple(elements)))
        return neighbourhood(atoms, cutoff + 1.0, elements)

    calc = ACECalculator(ace.pot("AlNi_fs2.yaml"), threads=1, neighbours=finder)
    assert calc.get_potential_energy(alni) == pytest.approx(calculator(ace).get_potential_energy(alni), rel=1e-12)
    assert asked == [(5.5, ("Al", "Ni"))]
