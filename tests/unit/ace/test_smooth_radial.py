"""Radial functions from data: the variances are those of the basis, the functions are smooth, and order is kept."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.ace.fitting import AceBasis
from mlip_autopipec.ace.generator import BasisRecipe, FunctionLimits, RadialSettings, standard_configuration
from mlip_autopipec.ace.radial import radial_basis
from mlip_autopipec.ace.smooth_radial import (
    neighbour_distance,
    smooth_coefficients,
    surroundings,
    variances,
    with_smooth_radial,
)
from mlip_autopipec.core.errors import DataError

CUTOFF = 5.0


def rattled(count=3):
    frames = []
    for seed in range(count):
        atoms = bulk("Al", "fcc", a=4.05, cubic=True) * (2, 1, 1)
        atoms.rattle(0.15, seed=seed)
        frames.append(atoms)
    return frames


def configuration(nradmax=4, lmax=3, elements=("Al",)):
    limits = FunctionLimits((8, nradmax), (0, lmax))
    return standard_configuration(BasisRecipe(elements, {"ALL": limits}, {"ALL": RadialSettings(CUTOFF)}))


def bond_of(made):
    return next(block.bond for block in made.blocks if block.bond)


def test_variances_are_the_power_spectrum_of_the_basis():
    frames, made = rattled(), configuration(nradmax=8)
    found = variances(surroundings(frames, CUTOFF), bond_of(made), 3)
    basis = AceBasis(made)
    total = sum(basis.design(atoms).energy for atoms in frames) / sum(len(atoms) for atoms in frames)
    checked = 0
    for block in made.blocks:
        # Functions of one block of one element keep the order of the coefficients within a rank.
        pairs = sorted((f for f in block.functions if f.rank == 2), key=lambda f: (f.ns, f.ls))
        for function, value in zip(pairs, total[8:], strict=True):
            (a, b), angular = function.ns, function.ls[0]
            expected = (-1) ** angular * np.sqrt(2 * angular + 1) * found[angular, a - 1, b - 1]
            assert value == pytest.approx(expected, rel=1e-6, abs=1e-8)
            checked += 1
    assert checked == 36 * 4


def test_shortest_and_nth_neighbour_of_a_crystal():
    around = surroundings([bulk("Al", "fcc", a=4.0)], 5.0)
    assert around.shortest == pytest.approx(4.0 / np.sqrt(2))
    assert neighbour_distance(around, 12) == pytest.approx(4.0 / np.sqrt(2))
    assert neighbour_distance(around, 13) == pytest.approx(4.0)
    assert neighbour_distance(around, 1000) == np.inf


def test_thinning_takes_atoms_evenly_across_structures():
    frames = rattled(5)
    assert len(surroundings(frames, CUTOFF).vectors) == 40
    thin = surroundings(frames, CUTOFF, most_atoms=13)
    every = surroundings(frames, CUTOFF).vectors[::4]
    assert len(thin.vectors) == len(every) == 10
    assert all((a == b).all() for a, b in zip(thin.vectors, every, strict=True))
    assert thin.shortest == surroundings(frames, CUTOFF).shortest


def test_functions_are_normalised_by_roughness_and_sorted_by_variance():
    around, bond = surroundings(rattled(), CUTOFF), bond_of(configuration())
    smoothing = 2.0
    coefficients = smooth_coefficients(around, bond, 4, 3, smoothing, bending=0.0)
    grid = np.linspace(0.85 * around.shortest, CUTOFF, 4000)
    g, slope = radial_basis(bond, grid)
    spread = variances(around, bond, 3)
    for angular in range(4):
        values, slopes = g @ coefficients[:, angular].T, slope @ coefficients[:, angular].T
        products = (values.T @ values + smoothing**2 * slopes.T @ slopes) * (grid[1] - grid[0])
        # The radial basis is almost dependent, which costs some of the norm.
        np.testing.assert_allclose(products, np.eye(4), atol=0.1)
        found = np.einsum("nk,kq,nq->n", coefficients[:, angular], spread[angular], coefficients[:, angular])
        assert (np.diff(found) < 0).all()


def test_smoothing_makes_functions_smoother():
    around, bond = surroundings(rattled(), CUTOFF), bond_of(configuration())
    grid = np.linspace(around.shortest, CUTOFF, 500)
    g, slope = radial_basis(bond, grid)

    def steepness(smoothing):
        c = smooth_coefficients(around, bond, 3, 2, smoothing)
        return np.sum((slope @ c.reshape(-1, bond.nradbase).T) ** 2) / np.sum((g @ c.reshape(-1, bond.nradbase).T) ** 2)

    assert steepness(2.5) < 0.8 * steepness(0.1)


def test_fading_makes_functions_short_sighted():
    around, bond = surroundings(rattled(), CUTOFF), bond_of(configuration())
    grid = np.linspace(around.shortest, CUTOFF, 500)
    g, _ = radial_basis(bond, grid)

    def mean_distance(fading):
        squares = (g @ smooth_coefficients(around, bond, 3, 2, 2.5, fading).reshape(-1, bond.nradbase).T) ** 2
        return np.sum(grid[:, None] * squares) / np.sum(squares)

    assert mean_distance(1.0) < mean_distance(2.5) < mean_distance(np.inf) - 0.1


def test_every_pair_of_an_alloy_gets_the_functions():
    frames = rattled(2)
    for atoms in frames:
        atoms.symbols[::2] = "Ni"
    made = with_smooth_radial(configuration(elements=("Al", "Ni")), surroundings(frames, CUTOFF), 2.5)
    bonds = [block.bond for block in made.blocks if block.bond]
    assert len(bonds) == 4
    assert all((bond.radcoefficients == bonds[0].radcoefficients).all() for bond in bonds)
    assert AceBasis(made).design(frames[0]).energy.any()


def test_what_cannot_be_is_refused():
    with pytest.raises(DataError, match="no atom has a neighbour"):
        surroundings([Atoms("Al")], CUTOFF)
    around = surroundings([bulk("Al", "fcc", a=4.05)], CUTOFF)
    with pytest.raises(DataError, match="9 radial functions"):
        smooth_coefficients(around, bond_of(configuration()), 9, 2, 1.0)
