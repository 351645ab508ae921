"""What any interatomic potential must obey: gradients, symmetries, smoothness, the same answer on any thread count."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation

from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.formats.yace_reading import read_yace
from mlip_autopipec.ace.terms import from_products
from mlip_autopipec.core.errors import Crashed, ModelError
from mlip_autopipec.core.neighbours import neighbourhood

# Of the 4-point central difference, A or dimensionless strain. Below the bins of the splines, so that pairs in the last
# dcut before the cutoff (0.01 A) do not limit the accuracy.
STEP = 3e-5


def central_difference(energy: Callable[[float], float]) -> float:
    """Return dE/ds at s = 0, error O(STEP^4)."""
    near, far = energy(STEP) - energy(-STEP), energy(2 * STEP) - energy(-2 * STEP)
    return (8.0 * near - far) / (12.0 * STEP)


def wrong(found: dict[str, tuple[float, float]], tolerance: float) -> list[str]:
    """Return the cases whose pair of numbers differ, relative to max(1, |second|)."""
    errors = {case: abs(x - y) / max(1.0, abs(y)) for case, (x, y) in found.items()}
    print(f"worst {max(errors.values()):.1e}")
    return [f"{case}: {error:.1e}" for case, error in errors.items() if not error <= tolerance]


def test_forces_are_the_gradient_of_the_energy(ace, evaluate, name, path) -> None:
    evaluator, random, found = ace.evaluator(name, path), np.random.default_rng(3), {}
    for case, atoms in ace.structures(name).items():
        direction = random.normal(size=(len(atoms), 3))
        direction /= np.linalg.norm(direction)

        def energy(s: float, atoms: Atoms = atoms, direction: np.ndarray = direction) -> float:
            moved = atoms.copy()
            moved.positions += s * direction
            return evaluate(evaluator, moved).energy

        forces = evaluate(evaluator, atoms).forces
        found[case] = (central_difference(energy), -float((forces * direction).sum()))
    assert wrong(found, 1e-6) == []


def test_virial_is_the_derivative_along_strain(ace, evaluate, name, path) -> None:
    evaluator, random, found = ace.evaluator(name, path), np.random.default_rng(4), {}
    for case, atoms in ace.structures(name).items():
        strain = random.normal(size=(3, 3))
        strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)

        def energy(s: float, atoms: Atoms = atoms, strain: np.ndarray = strain) -> float:
            stretch, strained = np.eye(3) + s * strain, atoms.copy()
            strained.set_cell(atoms.cell.array @ stretch)
            strained.positions = atoms.positions @ stretch
            return evaluate(evaluator, strained).energy

        voigt = np.array(
            [strain[0, 0], strain[1, 1], strain[2, 2], 2 * strain[1, 2], 2 * strain[0, 2], 2 * strain[0, 1]]
        )
        found[case] = (central_difference(energy), -float(evaluate(evaluator, atoms).virial @ voigt))
    assert wrong(found, 1e-6) == []


def test_no_net_force(ace, evaluate, name, path) -> None:
    evaluator = ace.evaluator(name, path)
    for case, atoms in ace.structures(name).items():
        forces = evaluate(evaluator, atoms).forces
        assert np.abs(forces.sum(axis=0)).max() <= 1e-11 * max(1.0, np.abs(forces).sum()), case


def _rotation(mirrored: bool) -> np.ndarray:
    matrix = Rotation.from_rotvec([0.4, -1.1, 0.7]).as_matrix()
    return matrix @ np.diag([1.0, 1.0, -1.0]) if mirrored else matrix


@pytest.mark.parametrize("mirrored", [False, True], ids=["rotation", "reflection"])
def test_turning_the_structure_turns_the_forces(ace, evaluate, name, path, mirrored) -> None:
    evaluator, matrix = ace.evaluator(name, path), _rotation(mirrored)
    for case, atoms in ace.structures(name).items():
        turned = atoms.copy()
        turned.set_cell(atoms.cell.array @ matrix.T)
        turned.positions = atoms.positions @ matrix.T
        before, after = (evaluate(evaluator, each, gamma=True) for each in (atoms, turned))
        scale = max(1.0, np.abs(before.forces).max())
        np.testing.assert_allclose(after.energies, before.energies, rtol=1e-9, atol=1e-9, err_msg=case)
        np.testing.assert_allclose(after.forces, before.forces @ matrix.T, rtol=0, atol=1e-8 * scale, err_msg=case)
        np.testing.assert_allclose(after.gamma, before.gamma, rtol=1e-5, atol=1e-5, err_msg=case)


def test_moving_everything_changes_nothing(ace, evaluate, name, path) -> None:
    evaluator = ace.evaluator(name, path)
    for case, atoms in ace.structures(name).items():
        moved = atoms.copy()
        moved.translate([1.234, -17.5, 3.9])
        # Periodic atoms on other sides of the box: the ghosts are other ones.
        moved.wrap()
        before, after = (evaluate(evaluator, each, gamma=True) for each in (atoms, moved))
        scale = max(1.0, np.abs(before.forces).max())
        np.testing.assert_allclose(after.energies, before.energies, rtol=1e-9, atol=1e-9, err_msg=case)
        np.testing.assert_allclose(after.forces, before.forces, rtol=0, atol=1e-8 * scale, err_msg=case)
        np.testing.assert_allclose(after.virial, before.virial, rtol=1e-8, atol=1e-8 * scale, err_msg=case)
        np.testing.assert_allclose(after.gamma, before.gamma, rtol=1e-5, atol=1e-5, err_msg=case)


def test_renumbering_atoms_renumbers_results(ace, evaluate, name, path) -> None:
    evaluator, random = ace.evaluator(name, path), np.random.default_rng(5)
    for case, atoms in ace.structures(name).items():
        order = random.permutation(len(atoms))
        before, after = (evaluate(evaluator, each, gamma=True) for each in (atoms, atoms[order]))
        scale = max(1.0, np.abs(before.forces).max())
        np.testing.assert_allclose(after.energies, before.energies[order], rtol=1e-11, atol=1e-11, err_msg=case)
        np.testing.assert_allclose(after.forces, before.forces[order], rtol=0, atol=1e-11 * scale, err_msg=case)
        np.testing.assert_allclose(after.gamma, before.gamma[order], rtol=1e-6, atol=1e-6, err_msg=case)


def _approach(elements: tuple[str, ...], rcut: float, gap: float) -> Atoms:
    """Return three atoms; the last is at rcut - gap from the first and sees the second in any case."""
    symbols = [elements[0], elements[-1], elements[-1]]
    return Atoms(symbols, positions=[[0.0, 0.0, 0.0], [1.7, 1.9, 0.3], [rcut - gap, 0.0, 0.0]])


def test_an_atom_crosses_the_cutoff_without_a_jump(ace, evaluate, name, path) -> None:
    evaluator = ace.evaluator(name, path)
    rcut = evaluator.potential.bonds[0, len(evaluator.elements) - 1].rcut
    gap = 1e-11
    inside, outside = (evaluate(evaluator, _approach(evaluator.elements, rcut, side * gap)) for side in (1, -1))
    scale = max(1.0, np.abs(outside.forces).max())
    assert np.abs(inside.energies - outside.energies).max() <= 1e-9 * scale
    assert np.abs(inside.forces - outside.forces).max() <= 1e-4 * scale


def test_energy_and_force_fade_out_before_the_cutoff(ace, evaluate, name, path) -> None:
    evaluator = ace.evaluator(name, path)
    rcut = evaluator.potential.bonds[0, len(evaluator.elements) - 1].rcut
    pair = [
        evaluate(evaluator, Atoms([evaluator.elements[0], evaluator.elements[-1]], [[0, 0, 0], [0, 0, rcut - gap]]))
        for gap in (1e-5, 1e-7, 1e-9, 0.0, -1e-9)
    ]
    energies = np.array([abs(each.energy) for each in pair])
    forces = np.array([np.abs(each.forces).max() for each in pair])
    assert (energies[3:] == 0.0).all()
    assert (forces[3:] == 0.0).all()
    # Linear fading of the force (and so quadratic of the energy) is the least that a C1 function has.
    assert (forces[1:3] <= 0.02 * forces[:2] + 1e-12).all(), forces
    assert (energies[1:3] <= 0.02 * energies[:2] + 1e-12).all(), energies


def test_an_atom_alone_has_the_isolated_energy(ace, evaluate, name, path) -> None:
    evaluator = ace.evaluator(name, path)
    alone = evaluate(evaluator, Atoms(evaluator.elements[0], [[3.0, -2.0, 1.0]]), gamma=True)
    assert alone.energy == 0.0
    assert (alone.forces == 0.0).all()
    assert (alone.virial == 0.0).all()
    assert (alone.gamma == 0.0).all()


def test_isolated_energies_of_a_yace_file_are_added(ace, evaluate, path, tmp_path) -> None:
    text = ace.pot("AlNi_fs2.yace").read_text().replace("E0: [0, 0]", "E0: [-3.25, 1.5]")
    (tmp_path / "shifted.yace").write_text(text)
    shifted = AceEvaluator(from_products(read_yace(tmp_path / "shifted.yace")), path=path, threads=1)
    plain = ace.evaluator("AlNi_fs2", path, "yace")
    atoms = ace.structures("AlNi_fs2")["cluster"]
    expected = evaluate(plain, atoms).energies + np.where(np.array(atoms.get_chemical_symbols()) == "Al", -3.25, 1.5)
    np.testing.assert_allclose(evaluate(shifted, atoms).energies, expected, rtol=1e-13, atol=1e-13)


def _large(ace, name: str) -> Atoms:
    return ace.structures(name)["rattled_2x2x2"].repeat((2, 2, 1))


def test_threads_agree_and_each_number_of_them_repeats_its_bits(ace, evaluate, name, path) -> None:
    atoms = _large(ace, name)
    one, *twos = (
        [evaluate(ace.evaluator(name, path, threads=threads), atoms, gamma=True) for _ in range(3)]
        for threads in (1, 2)
    )
    for runs in (one, *twos):
        for again in runs[1:]:
            for field in ("energy", "energies", "forces", "virial", "gamma"):
                assert np.array_equal(getattr(again, field), getattr(runs[0], field)), field
    two = twos[0][0]
    np.testing.assert_allclose(two.energies, one[0].energies, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(two.forces, one[0].forces, rtol=0, atol=1e-11 * max(1.0, np.abs(two.forces).max()))
    np.testing.assert_allclose(two.virial, one[0].virial, rtol=0, atol=1e-11 * max(1.0, np.abs(two.virial).max()))
    np.testing.assert_allclose(two.gamma, one[0].gamma, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_frame_leaves_no_trace_in_the_next(ace, evaluate, path, threads) -> None:
    evaluator = ace.evaluator("AlNi_fs2", path, threads=threads)
    structures = ace.structures("AlNi_fs2")
    order = ["cluster", "rattled_2x2x2", "isolated", "dimer_AlNi_0.9", "compressed", "trimer", "slab_vac"]
    for case in order + order[::-1]:
        fresh = ace.fresh_evaluator("AlNi_fs2", path, threads=threads)
        mine, theirs = (evaluate(each, structures[case], gamma=True) for each in (evaluator, fresh))
        for field in ("energies", "forces", "virial", "gamma"):
            assert np.array_equal(getattr(mine, field), getattr(theirs, field)), (case, field)


def test_results_stay_when_the_evaluator_goes_on(ace, evaluate, path) -> None:
    evaluator, structures = ace.evaluator("AlNi_linear", path), ace.structures("AlNi_linear")
    first = evaluate(evaluator, structures["cluster"], gamma=True)
    kept = {field: np.array(getattr(first, field)) for field in ("energies", "forces", "virial", "gamma")}
    evaluate(evaluator, structures["triclinic"], gamma=True)
    for field, before in kept.items():
        assert np.array_equal(getattr(first, field), before), field


def test_frames_that_cannot_be_evaluated(ace, evaluate, name, path) -> None:
    evaluator = ace.evaluator(name, path)
    element = evaluator.elements[0]
    with pytest.raises(Crashed, match=r"closer than"):
        evaluate(evaluator, Atoms([element] * 2, [[0, 0, 0], [0, 0, 2e-4]]))
    for value in (np.nan, np.inf):
        frame = neighbourhood(Atoms([element] * 2, [[0, 0, 0], [0, 0, 2.5]]), evaluator.cutoff, evaluator.elements)
        frame.positions[1, 2] = value
        with pytest.raises(Crashed, match="not finite"):
            evaluator.evaluate(frame)
    with pytest.raises(ModelError, match="Xe"):
        evaluate(evaluator, Atoms("Xe"))
    # It still works afterwards.
    assert np.isfinite(evaluate(evaluator, ace.structures(name)["trimer"], gamma=True).gamma).all()


def test_an_empty_frame_has_no_energy(ace, evaluate, name, path) -> None:
    found = evaluate(ace.evaluator(name, path), Atoms(), gamma=True)
    assert found.energy == 0.0
    assert found.forces.shape == (0, 3)
    assert found.gamma.shape == (0,)


def test_grade_needs_an_active_set(ace, evaluate, path) -> None:
    evaluator = ace.evaluator("AlNi_fs2", path, "yace")
    assert not evaluator.has_gamma
    with pytest.raises(ModelError, match="active set"):
        evaluate(evaluator, ace.structures("AlNi_fs2")["trimer"], gamma=True)
