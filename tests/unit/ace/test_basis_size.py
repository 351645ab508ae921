"""The choice of a basis: rungs contain each other, few data give few functions, the choice depends on no order."""

import numpy as np
import pytest
from ase.build import bulk

from mlip_autopipec.ace.basis_size import (
    LONGEST_CUTOFF,
    LOWEST_RUNG,
    ROWS_PER_FUNCTION,
    RUNGS,
    choose_basis,
    count_functions,
    rung_configuration,
)
from mlip_autopipec.ace.fitting import AceBasis
from mlip_autopipec.ace.radial import radial_basis, radial_functions
from mlip_autopipec.core.errors import ModelError


def crystals(element="Al", structure="fcc", a=4.05):
    frames = []
    for seed in range(3):
        atoms = bulk(element, structure, a=a, cubic=True) * (2, 2, 1)
        atoms.rattle(0.1, seed=seed)
        frames.append(atoms)
    return frames


def named(configuration):
    return {(f.elements, f.ns, f.ls, f.LS) for block in configuration.blocks for f in block.functions}


@pytest.mark.parametrize("elements", [("Al",), ("Al", "Ni")])
def test_each_rung_contains_the_one_below(elements):
    top = 7 if len(elements) == 1 else 4
    below = set()
    for rung in range(RUNGS[0], top + 1):
        here = named(rung_configuration(elements, rung, 5.0))
        assert below < here
        below = here


def test_unknown_rung_is_refused():
    with pytest.raises(ModelError, match="rung 11"):
        rung_configuration(("Al",), 11, 5.0)


@pytest.mark.parametrize("rows", [10, 2000, 6000, 10**6])
def test_functions_grow_with_the_data(rows):
    choice = choose_basis(crystals(), rows, rung=7)
    assert choice.n_functions == count_functions(choice.configuration) == AceBasis(choice.configuration).n_coefficients
    assert choice.n_functions <= max(
        rows // ROWS_PER_FUNCTION, count_functions(rung_configuration(("Al",), LOWEST_RUNG, 5.0))
    )
    assert choice.limited_by == ("rung" if rows == 10**6 else "data")
    if choice.limited_by == "data":
        more = count_functions(rung_configuration(("Al",), choice.rung + 1, choice.cutoff))
        assert more > rows // ROWS_PER_FUNCTION


def test_cutoff_follows_the_density_and_may_be_given():
    dense, loose = choose_basis(crystals(), 1000), choose_basis(crystals(a=5.0), 1000)
    assert loose.cutoff == pytest.approx(dense.cutoff * 5.0 / 4.05, abs=0.15)
    assert loose.shortest > dense.shortest
    assert choose_basis(crystals(), 1000, cutoff=4.5).cutoff == 4.5
    assert choose_basis(crystals(a=9.0), 1000).cutoff <= LONGEST_CUTOFF


def test_order_of_structures_does_not_matter():
    frames = crystals()
    one, other = choose_basis(frames, 2000), choose_basis(frames[::-1], 2000)
    assert (one.cutoff, one.shortest, one.rung) == (other.cutoff, other.shortest, other.rung)
    grid = np.linspace(one.shortest, one.cutoff, 50)
    for a, b in zip(one.configuration.blocks, other.configuration.blocks, strict=True):
        assert a.functions == b.functions
        # The order of a sum is felt by the almost dependent directions of the radial basis.
        first, second = (radial_functions(block.bond, radial_basis(block.bond, grid)[0])[:, 0] for block in (a, b))
        np.testing.assert_allclose(first, second, rtol=0, atol=1e-3 * np.abs(first).max())
