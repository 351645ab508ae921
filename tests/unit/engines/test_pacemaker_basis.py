"""The linear basis: rows times coefficients are python-ace's energies and forces, in every kind of cell."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.ace.formats.asi import write_asi
from mlip_autopipec.ace.linear import LabelledDesign, fit
from mlip_autopipec.ace.maxvol import active_set
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.engines.pacemaker.basis import PyaceBasis, read_basis
from mlip_autopipec.engines.pacemaker.evaluator import PyaceEvaluator
from mlip_autopipec.engines.pacemaker.library import import_pyace
from mlip_autopipec.stages.train import TrainingSettings

pytestmark = pytest.mark.usefixtures("python_ace")

SMALL = TrainingSettings(engine="pyace", cutoff=5.0, nradmax_by_orders=(5, 2, 1), lmax_by_orders=(0, 2, 1))


def alloy(seed, pbc=True):
    atoms = bulk("Al", cubic=True, a=4.0) * (2, 2, 1)
    rng = np.random.default_rng(seed)
    atoms.symbols[rng.permutation(len(atoms))[:6]] = "Ni"
    atoms.positions += rng.normal(0, 0.15, (len(atoms), 3))
    atoms.pbc = pbc
    return atoms


@pytest.fixture(scope="module")
def basis():
    return make_basis(SMALL, ["Ni", "Al"])


@pytest.fixture(scope="module")
def coefficients(basis):
    return np.random.default_rng(5).normal(size=basis.n_coefficients)


@pytest.fixture(scope="module")
def folder(basis, coefficients, tmp_path_factory):
    folder = tmp_path_factory.mktemp("potential")
    basis.write(coefficients, {"Al": -1.25, "Ni": 1e-7}, folder)
    return folder


def test_columns_are_pure_element_blocks_in_alphabetical_order(basis):
    assert basis.elements == ("Al", "Ni")
    assert basis.cutoff == 5.0
    assert len(basis.ranks) == basis.n_coefficients
    design = basis.design(bulk("Ni", cubic=True))
    columns = np.flatnonzero(design.energy)
    assert columns.min() >= basis.n_coefficients // 2
    assert set(design.projections) == {"Ni"}


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, True, False), False])
@pytest.mark.parametrize("suffix", ["yaml", "yace"])
def test_rows_times_coefficients_are_what_both_files_evaluate_to(basis, coefficients, folder, pbc, suffix):
    atoms = alloy(1, pbc)
    design = basis.design(atoms)
    evaluation = PyaceEvaluator(folder / f"potential.{suffix}").evaluate(neighbourhood(atoms, 5.0, basis.elements))
    isolated = 10 * -1.25 + 6 * 1e-7 if suffix == "yace" else 0.0
    assert design.energy @ coefficients + isolated == pytest.approx(evaluation.energy, abs=1e-9)
    np.testing.assert_allclose(design.forces @ coefficients, evaluation.forces, atol=1e-9)


def test_a_plane_equals_the_plane_in_a_thick_vacuum(basis):
    flat = alloy(2, (True, True, False))
    thick = flat.copy()
    thick.cell[2, 2] = 40.0
    thick.pbc = True
    np.testing.assert_allclose(basis.design(flat).energy, basis.design(thick).energy, atol=1e-10)


def test_forces_are_the_gradient(basis, coefficients):
    atoms = alloy(3)
    forces = basis.design(atoms).forces @ coefficients
    energies = []
    for shift in (1e-4, -1e-4):
        moved = atoms.copy()
        moved.positions[4, 1] += shift
        energies.append(basis.design(moved).energy @ coefficients)
    assert -(energies[0] - energies[1]) / 2e-4 == pytest.approx(forces[4, 1], rel=1e-5)


def test_projections_sum_to_the_energy_row(basis):
    atoms = alloy(4)
    design = basis.design(atoms)
    total = np.concatenate([design.projections[e][1].sum(axis=0) for e in basis.elements])
    np.testing.assert_allclose(total, design.energy, atol=1e-10)
    assert sorted(np.concatenate([design.projections[e][0] for e in basis.elements])) == list(range(16))
    again = basis.projections(atoms)
    np.testing.assert_array_equal(again["Ni"][1], design.projections["Ni"][1])


def test_files_carry_the_coefficients_exactly(basis, coefficients, folder):
    again = PyaceBasis(read_basis(folder / "potential.yaml"), neighbourhood)
    np.testing.assert_array_equal(again.coefficients, coefficients)
    assert again.ranks == basis.ranks
    assert "E0: [-1.25, 1e-07]" in (folder / "potential.yace").read_text()


def test_writing_does_not_change_the_basis(basis, folder):
    assert not basis.coefficients.any()


def labelled(basis, truth, atoms, seed):
    design = basis.design(atoms)
    everyone = np.ones(len(atoms), dtype=bool)
    return LabelledDesign(str(seed), design, float(design.energy @ truth), design.forces @ truth, everyone, 100.0, 1.0)


def test_coefficients_of_a_random_element_are_recovered():
    basis = make_basis(SMALL, ["Al"])
    truth = np.random.default_rng(6).normal(size=basis.n_coefficients)
    data = []
    for seed in range(12):
        atoms = alloy(seed)
        atoms.symbols[:] = "Al"
        data.append(labelled(basis, truth, atoms, seed))
    np.testing.assert_allclose(fit(data, basis.ranks).coefficients, truth, rtol=0, atol=1e-8)


def test_energies_and_forces_of_a_random_alloy_are_recovered(basis, coefficients):
    """Coefficients are not: the same pairs are counted from both sides, so one of two pair functions is free."""
    found = fit([labelled(basis, coefficients, alloy(seed), seed) for seed in range(12)], basis.ranks)
    assert found.report.n_dropped > 0
    design = basis.design(alloy(100))
    assert design.energy @ found.coefficients == pytest.approx(design.energy @ coefficients, abs=1e-8)
    np.testing.assert_allclose(design.forces @ found.coefficients, design.forces @ coefficients, rtol=0, atol=1e-8)


def test_grade_of_the_written_active_set_is_ours(basis, coefficients, folder):
    rows = {element: [] for element in basis.elements}
    for seed in range(10):
        for element, (_, values) in basis.projections(alloy(seed)).items():
            rows[element].append(values)
    active = {element: active_set(np.concatenate(values)) for element, values in rows.items()}
    write_asi({element: a.inverse for element, a in active.items()}, folder / "potential.asi")
    evaluator = PyaceEvaluator(folder / "potential.yaml", folder / "potential.asi")
    strange = alloy(77)
    strange.positions += np.random.default_rng(1).normal(0, 0.2, (16, 3))
    for atoms, limit in ((alloy(3), 1.0 + 1e-2), (strange, np.inf)):
        gamma = evaluator.evaluate(neighbourhood(atoms, 5.0, basis.elements), gamma=True).gamma
        for element, (members, values) in basis.projections(atoms).items():
            np.testing.assert_allclose(gamma[members], active[element].gamma(values), rtol=1e-6)
        assert gamma.max() <= limit
    assert gamma.max() > 2


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("Cu"), "Cu"),
        (Atoms("Al2", positions=[[0, 0, 0], [0, 0, 1e-5]]), "coincide"),
    ],
)
def test_what_cannot_be_evaluated_is_an_error(basis, atoms, message):
    with pytest.raises(ModelError, match=message):
        basis.design(atoms)


def test_unusable_coefficients_are_refused(basis, tmp_path):
    energies = {"Al": 0.0, "Ni": 0.0}
    with pytest.raises(ModelError, match="finite"):
        basis.write(np.full(basis.n_coefficients, np.nan), energies, tmp_path)
    with pytest.raises(ModelError, match="Ni"):
        basis.write(np.zeros(basis.n_coefficients), {"Al": 0.0}, tmp_path)


def test_unusable_files_are_errors(tmp_path):
    (tmp_path / "broken.yaml").write_text("species: [1, 2")
    for name, message in (("broken.yaml", "cannot read"), ("missing.yaml", "no such file"), ("x.yace", "B-basis")):
        with pytest.raises(ModelError, match=message):
            read_basis(tmp_path / name)


@pytest.mark.parametrize("family", ["ChebExpCos", "ChebPow", "SBessel"])
def test_rows_are_those_of_our_own_engine(family):
    settings = SMALL.model_copy(update={"radial_basis": family})
    theirs, ours = (
        make_basis(settings, ["Al", "Ni"]),
        make_basis(settings.model_copy(update={"engine": "ace"}), ["Al", "Ni"]),
    )
    assert theirs.ranks == ours.ranks
    one, two = theirs.design(alloy(8)), ours.design(alloy(8))
    np.testing.assert_allclose(one.energy, two.energy, atol=1e-9 * np.abs(one.energy).max())
    np.testing.assert_allclose(one.forces, two.forces, atol=1e-8 * np.abs(one.forces).max())


def test_the_functions_are_those_of_pacemakers_generator():
    limits = {"nradmax_by_orders": list(SMALL.nradmax_by_orders), "lmax_by_orders": list(SMALL.lmax_by_orders)}
    radial = {"radbase": SMALL.radial_basis, "radparameters": [SMALL.radial_decay], "rcut": SMALL.cutoff, "dcut": 0.01}
    cutoffs = {"NameOfCutoffFunction": "cos", "inner_cutoff_type": "density", "r_in": 0.0, "delta_in": 0.0}
    pyace = import_pyace()
    recipe = {
        "deltaSplineBins": 0.001,
        "elements": ["Al", "Ni"],
        "embeddings": {"ALL": {"npot": "FinnisSinclairShiftedScaled", "fs_parameters": [1, 1], "ndensity": 1}},
        "bonds": {"ALL": {**radial, **cutoffs}},
        "functions": {"ALL": limits},
    }
    generated = PyaceBasis(pyace.ACEBBasisSet(pyace.create_multispecies_basis_config(recipe)), neighbourhood)
    ours = make_basis(SMALL, ["Al", "Ni"])
    assert generated.ranks == ours.ranks
    one, two = generated.design(alloy(9)), ours.design(alloy(9))
    np.testing.assert_allclose(one.energy, two.energy, atol=1e-12 * np.abs(one.energy).max())
