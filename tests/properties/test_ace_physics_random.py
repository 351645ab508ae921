"""Physics that random ACE potentials of every kind obey, by both paths: gradients, symmetries, smoothness."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.evaluator import AceEvaluator
from mlip_autopipec.ace.records import EMBEDDING_KINDS, INNER_CUTOFF_TYPES
from mlip_autopipec.ace.terms import from_basis
from mlip_autopipec.core.interfaces import Evaluation
from mlip_autopipec.core.neighbours import neighbourhood
from random_potentials import Choice, random_configuration, random_structure

PATHS = ("lanes", "reference")
STEP = 3e-5
choices = st.builds(
    Choice,
    seed=st.integers(0, 10**6),
    n_elements=st.integers(1, 3),
    top_rank=st.integers(1, 5),
    # ChebLinear jumps at its cutoff, whoever evaluates it; so does a density-type inner cutoff.
    kinds=st.sampled_from([("ChebExpCos",), ("ChebPow",), ("SBessel",)]),
    embedding=st.sampled_from(EMBEDDING_KINDS),
    ndensity=st.integers(1, 3),
    inner=st.sampled_from(INNER_CUTOFF_TYPES),
    core=st.booleans(),
    functions_per_rank=st.integers(1, 2),
)
few = settings(
    max_examples=10,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)


def engines(choice: Choice) -> list[AceEvaluator]:
    potential = from_basis(make_basis(random_configuration(choice)))
    # ChebPow of power 1 has a kink at its cutoff, whoever evaluates it.
    assume(all(bond.radbase != "ChebPow" or bond.radparameters[0] > 1.0 for bond in potential.bonds.values()))
    return [AceEvaluator(potential, path=path, threads=1) for path in PATHS]


def evaluate(engine: AceEvaluator, atoms: Atoms) -> Evaluation:
    return engine.evaluate(neighbourhood(atoms, engine.cutoff, engine.elements))


def moved(atoms: Atoms, positions: np.ndarray, cell: np.ndarray | None = None) -> Atoms:
    copy = atoms.copy()
    if cell is not None:
        copy.set_cell(cell)
    copy.positions = positions
    return copy


def slope(energies: dict[int, float]) -> float:
    """Return dE/ds from energies at multiples of STEP."""
    return (8 * (energies[1] - energies[-1]) - (energies[2] - energies[-2])) / (12 * STEP)


@few
@given(choice=choices)
def test_forces_and_virial_are_gradients(choice: Choice) -> None:
    # FinnisSinclair turns within 1e-6 of a density of zero: too sharp for differences.
    choice = replace(choice, embedding="FinnisSinclairShiftedScaled")
    rng = np.random.default_rng(choice.seed)
    for engine in engines(choice):
        atoms = random_structure(choice.seed, engine.elements, n_atoms=6, nearest=1.9)
        found = evaluate(engine, atoms)
        direction, strain = rng.normal(size=(6, 3)), rng.normal(size=(3, 3))
        direction, strain = direction / np.linalg.norm(direction), strain + strain.T
        strain /= np.linalg.norm(strain)
        shifts = {
            k: evaluate(engine, moved(atoms, atoms.positions + k * STEP * direction)).energy for k in (-2, -1, 1, 2)
        }
        stretches = {k: np.eye(3) + k * STEP * strain for k in (-2, -1, 1, 2)}
        strains = {
            k: evaluate(engine, moved(atoms, atoms.positions @ s, atoms.cell.array @ s)).energy
            for k, s in stretches.items()
        }
        shear = [2 * strain[i, j] for i, j in ((1, 2), (0, 2), (0, 1))]
        virial = -found.virial @ np.array([*np.diagonal(strain), *shear])
        # Between the nodes of the splines energies are C1 only, so differences across a node are a little off.
        scale = max(1.0, np.abs(found.forces).max(), np.abs(found.virial).max(), abs(found.energy))
        assert abs(slope(shifts) + (found.forces * direction).sum()) <= 1e-6 * scale
        assert abs(slope(strains) - virial) <= 1e-6 * scale


@few
@given(choice=choices)
def test_symmetries(choice: Choice) -> None:
    rng = np.random.default_rng(choice.seed)
    turn = Rotation.random(rng=rng).as_matrix()
    mirror = turn @ np.diag([1.0, 1.0, -1.0])
    for engine in engines(choice):
        atoms = random_structure(choice.seed, engine.elements, nearest=1.9)
        before = evaluate(engine, atoms)
        scale = max(1.0, np.abs(before.forces).max(initial=0.0))
        assert np.abs(before.forces.sum(axis=0)).max() <= 1e-10 * scale * len(atoms)
        order = rng.permutation(len(atoms))
        cases = [
            (moved(atoms, atoms.positions @ R.T, atoms.cell.array @ R.T), R, np.arange(len(atoms)))
            for R in (turn, mirror)
        ]
        cases += [(moved(atoms, atoms.positions + rng.normal(size=3)), np.eye(3), np.arange(len(atoms)))]
        cases += [(atoms[order], np.eye(3), order)]
        for changed, R, members in cases:
            after = evaluate(engine, changed)
            np.testing.assert_allclose(after.energies, before.energies[members], rtol=1e-8, atol=1e-8)
            np.testing.assert_allclose(after.forces, before.forces[members] @ R.T, rtol=0, atol=1e-7 * scale)


@few
@given(choice=choices)
def test_an_atom_leaves_without_a_jump(choice: Choice) -> None:
    for engine in engines(choice):
        cluster = random_structure(choice.seed, engine.elements[:1], n_atoms=3, nearest=1.9)
        cluster.pbc = False
        rcut = engine.potential.bonds[0, len(engine.elements) - 1].rcut
        far = cluster.positions[:, 2].argmax()

        def at(gap: float, cluster: Atoms = cluster, rcut: float = rcut, far: int = far) -> Evaluation:
            place = cluster.positions[far] + [0, 0, rcut - gap]
            return evaluate(engine, cluster + Atoms(engine.elements[-1], [place]))  # noqa: B023  used at once

        inside, outside = at(1e-11), at(-1e-11)
        scale = max(1.0, np.abs(outside.forces).max())
        assert np.abs(inside.energies - outside.energies).max() <= 1e-9 * scale
        assert np.abs(inside.forces - outside.forces).max() <= 1e-4 * scale


@pytest.mark.slow
@pytest.mark.parametrize(
    "check", [test_forces_and_virial_are_gradients, test_symmetries, test_an_atom_leaves_without_a_jump]
)
def test_many(check) -> None:
    inner = check.hypothesis.inner_test
    settings(few, max_examples=200, derandomize=False)(given(choice=choices)(inner))()
