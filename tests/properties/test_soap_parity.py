"""SOAP equals dscribe for settings and structures that nobody chose."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mlip_autopipec.sampling.soap.descriptor import Soap
from mlip_autopipec.sampling.soap.gto import overlaps
from mlip_autopipec.sampling.soap.settings import SoapSettings
from soap_parts import distance, dscribe_soap

SPECIES = ("H", "O", "Al", "Cu", "Au")


@st.composite
def structures(draw) -> Atoms:
    """Up to twelve atoms of some elements anywhere, in any cell, periodic in any directions."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, kinds = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    cell = np.diag(rng.uniform(3.0, 9.0, 3)) + rng.uniform(-1.0, 1.0, (3, 3))
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    symbols = rng.choice(SPECIES[: kinds + 1], n)
    return Atoms(list(symbols), scaled_positions=rng.uniform(-0.3, 1.3, (n, 3)), cell=cell, pbc=pbc)


@pytest.mark.usefixtures("dscribe")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    atoms=structures(),
    r_cut=st.floats(1.2, 6.0),
    n_max=st.integers(1, 9),
    l_max=st.integers(0, 9),
    sigma=st.floats(0.2, 1.2),
    average=st.sampled_from(["off", "inner", "outer"]),
)
def test_equal_to_dscribe(atoms, r_cut, n_max, l_max, sigma, average):
    wanted = SoapSettings(tuple(set(atoms.get_chemical_symbols()) | {"H"}), r_cut, n_max, l_max, sigma)
    # Beyond this both take the root of a matrix in which rounding is a visible share: neither is right to 1e-6.
    assume(np.linalg.cond(overlaps(wanted)[1]).max() < 1e10)
    soap = Soap(wanted, threads=1)
    ours = soap.environments(atoms) if average == "off" else soap.structure(atoms, average=average)
    # dscribe misses images of atoms that lie outside of the cell.
    inside = atoms.copy()
    inside.wrap()
    assert distance(ours, dscribe_soap(wanted, inside, average)) < 1e-6
