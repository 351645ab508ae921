"""What every `core.interfaces.Evaluator` must obey: exact derivatives, symmetry, locality, gamma."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation

from mlip_autopipec.core.conventions import virial_to_lammps
from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Evaluation, Evaluator
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.daemons.evaluators import load_evaluator, make_evaluator
from mlip_autopipec.engines.pacemaker.evaluator import PyaceEvaluator
from small_potentials import LennardJones, distorted, fit_emt

ELEMENTS = ("Al", "Cu")
# An engine is added here: a name, and a function from a folder with potential.yaml, .yace and .asi to an evaluator.
ENGINES = {
    "pyace .yaml": lambda folder: PyaceEvaluator(folder / "potential.yaml", folder / "potential.asi"),
    "pyace .yace": lambda folder: PyaceEvaluator(folder / "potential.yace"),
    "own engine .yaml": make_evaluator,
    "own engine .yaml, 2 threads": lambda folder: make_evaluator(folder, threads=2),
    "own engine .yace": lambda folder: load_evaluator(folder / "potential.yace"),
    "Lennard-Jones of the tests": lambda folder: LennardJones(ELEMENTS, sigma=2.4, epsilon=0.3, cutoff=5.0),
}


@pytest.fixture(scope="session")
def potential(tmp_path_factory):
    return fit_emt(tmp_path_factory.mktemp("contract"), ELEMENTS)


@pytest.fixture(params=ENGINES)
def evaluator(request, potential) -> Evaluator:
    if request.param.startswith("pyace"):
        request.getfixturevalue("python_ace")
    return ENGINES[request.param](potential)


def crystal() -> Atoms:
    return distorted(ELEMENTS, 11)


def slab() -> Atoms:
    atoms = crystal()
    atoms.pbc = [True, True, False]
    return atoms


def evaluate(evaluator: Evaluator, atoms: Atoms, *, gamma: bool = False) -> Evaluation:
    return evaluator.evaluate(neighbourhood(atoms, evaluator.cutoff, evaluator.elements), gamma=gamma)


@pytest.mark.parametrize("make", [crystal, slab])
def test_forces_are_minus_the_gradient(evaluator, make):
    atoms, step = make(), 1e-4
    forces = evaluate(evaluator, atoms).forces
    for i, axis in ((0, 0), (7, 1), (31, 2), (18, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, axis] += sign * step
            energies.append(evaluate(evaluator, moved).energy)
        assert forces[i, axis] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=2e-6)


@pytest.mark.parametrize("make", [crystal, slab])
def test_virial_is_minus_the_strain_derivative(evaluator, make):
    atoms, step = make(), 1e-5
    # xx yy zz xy xz yz, so that index pairs read off easily
    virial = virial_to_lammps(evaluate(evaluator, atoms).virial)
    for k, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * step / 2
            strain[b, a] += sign * step / 2
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=False)
            strained.positions = atoms.positions @ strain
            energies.append(evaluate(evaluator, strained).energy)
        assert virial[k] == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-4)


def test_energy_is_the_sum_and_forces_balance(evaluator):
    answer = evaluate(evaluator, crystal())
    assert answer.energy == pytest.approx(answer.energies.sum(), abs=1e-10)
    assert np.abs(answer.forces.sum(axis=0)).max() < 1e-10


def test_permutation(evaluator):
    atoms = crystal()
    order = np.random.default_rng(0).permutation(len(atoms))
    one = evaluate(evaluator, atoms, gamma=evaluator.has_gamma)
    two = evaluate(evaluator, atoms[order], gamma=evaluator.has_gamma)
    assert np.abs(one.energies[order] - two.energies).max() < 1e-10
    assert np.abs(one.forces[order] - two.forces).max() < 1e-10
    assert np.abs(one.virial - two.virial).max() < 1e-9
    if evaluator.has_gamma:
        assert np.allclose(one.gamma[order], two.gamma, rtol=1e-6)


@pytest.mark.parametrize("mirror", [False, True])
def test_rotation_and_reflection(evaluator, mirror):
    atoms = slab()
    turn = Rotation.from_euler("xyz", [0.3, -1.1, 2.0]).as_matrix() * (-1 if mirror else 1)
    turned = atoms.copy()
    turned.set_cell(atoms.cell.array @ turn.T)
    turned.positions = atoms.positions @ turn.T
    one = evaluate(evaluator, atoms, gamma=evaluator.has_gamma)
    two = evaluate(evaluator, turned, gamma=evaluator.has_gamma)
    assert np.abs(one.energies - two.energies).max() < 1e-9
    assert np.abs(one.forces @ turn.T - two.forces).max() < 1e-9
    assert np.abs(turn @ tensor(one.virial) @ turn.T - tensor(two.virial)).max() < 1e-8
    if evaluator.has_gamma:
        assert np.allclose(one.gamma, two.gamma, rtol=1e-6)


def tensor(v: np.ndarray) -> np.ndarray:
    return np.array([[v[0], v[5], v[4]], [v[5], v[1], v[3]], [v[4], v[3], v[2]]])


def test_translation_and_choice_of_images(evaluator):
    atoms = crystal()
    moved = atoms.copy()
    moved.positions += [1.3, -20.7, 0.4]
    moved.positions[5] += 2 * atoms.cell.array[0] - atoms.cell.array[2]
    one, two = evaluate(evaluator, atoms), evaluate(evaluator, moved)
    assert np.abs(one.energies - two.energies).max() < 1e-9
    assert np.abs(one.forces - two.forces).max() < 1e-9
    assert np.abs(one.virial - two.virial).max() < 1e-8


def test_a_supercell_is_the_same_crystal(evaluator):
    atoms = crystal()[:6]
    atoms.set_cell(atoms.cell.array * [[0.6], [0.6], [0.6]], scale_atoms=False)
    one, two = evaluate(evaluator, atoms), evaluate(evaluator, atoms.repeat((2, 1, 1)))
    assert np.abs(np.tile(one.forces, (2, 1)) - two.forces).max() < 1e-9 * max(1.0, np.abs(one.forces).max())
    assert np.abs(2 * one.virial - two.virial).max() < 1e-9 * max(1.0, np.abs(one.virial).max())


def test_atoms_beyond_the_cutoff_do_not_matter(evaluator):
    near = Atoms("AlCu", [[0, 0, 0], [2.6, 0, 0]])
    far = near + Atoms("Cu", [[-evaluator.cutoff - 0.01, 0, 0]])
    assert np.abs(evaluate(evaluator, near).forces - evaluate(evaluator, far).forces[:2]).max() < 1e-12
    alone = evaluate(evaluator, Atoms("Al"))
    assert np.abs(alone.forces).max() == 0.0
    assert np.abs(alone.virial).max() == 0.0


def test_continuous_at_the_cutoff(evaluator):
    values = []
    for gap in (-1e-5, 1e-5):
        pair = evaluate(evaluator, Atoms("AlCu", [[0, 0, 0], [evaluator.cutoff + gap, 0, 0]]))
        values.append(pair.energy)
    assert values[0] == pytest.approx(values[1], abs=1e-6)


def test_gamma_comes_when_asked_and_only_then(evaluator):
    atoms = crystal()
    assert evaluate(evaluator, atoms).gamma is None
    if not evaluator.has_gamma:
        with pytest.raises(ModelError, match="gamma"):
            evaluate(evaluator, atoms, gamma=True)
        return
    graded = evaluate(evaluator, atoms, gamma=True)
    assert graded.gamma.shape == (len(atoms),)
    assert (graded.gamma >= 0).all()
    squeezed = atoms.copy()
    squeezed.set_cell(atoms.cell.array * 0.85, scale_atoms=True)
    assert evaluate(evaluator, squeezed, gamma=True).gamma.max() > 2 * graded.gamma.max()
    # gamma of this frame, not of the one before
    assert np.allclose(evaluate(evaluator, atoms, gamma=True).gamma, graded.gamma, rtol=1e-9)
    plain = evaluate(evaluator, atoms)
    assert np.abs(plain.forces - graded.forces).max() < 1e-10
    assert plain.energy == pytest.approx(graded.energy, abs=1e-10)


def test_answers_are_the_callers_to_keep(evaluator):
    first = evaluate(evaluator, crystal(), gamma=evaluator.has_gamma)
    kept = first.forces.copy(), first.energies.copy(), first.virial.copy()
    evaluate(evaluator, distorted(ELEMENTS, 12), gamma=evaluator.has_gamma)
    for before, after in zip(kept, (first.forces, first.energies, first.virial), strict=True):
        assert (before == after).all()
