"""What every `core.interfaces.Descriptor` must obey: symmetry, one row per atom, the mean for a structure."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.ace.basis import make_basis
from mlip_autopipec.ace.descriptor import AceDescriptor
from mlip_autopipec.ace.generator import BasisRecipe, FunctionLimits, RadialSettings, standard_configuration
from mlip_autopipec.ace.terms import from_basis
from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.interfaces import Descriptor
from mlip_autopipec.sampling.soap.descriptor import Soap
from mlip_autopipec.sampling.soap.settings import SoapSettings

ELEMENTS = ("Al", "Cu")


def ace() -> Descriptor:
    limits, radial = FunctionLimits((3, 2), (0, 1)), RadialSettings(5.0)
    recipe = BasisRecipe(ELEMENTS, {"ALL": limits}, {"ALL": radial})
    return AceDescriptor(from_basis(make_basis(standard_configuration(recipe))), threads=1)


# A descriptor is added here.
DESCRIPTORS = {"SOAP": lambda: Soap(SoapSettings(ELEMENTS, n_max=4, l_max=3), threads=1), "ACE": ace}


@pytest.fixture(params=DESCRIPTORS, scope="module")
def descriptor(request) -> Descriptor:
    return DESCRIPTORS[request.param]()


def crystal() -> Atoms:
    atoms = bulk("Al", cubic=True).repeat((2, 1, 1))
    atoms.symbols[[1, 5, 6]] = "Cu"
    atoms.rattle(0.1, seed=3)
    return atoms


def test_one_row_for_each_atom_and_their_mean_for_all(descriptor):
    atoms = crystal()
    rows = descriptor.environments(atoms)
    assert rows.shape == (len(atoms), descriptor.n_features)
    assert descriptor.elements == ELEMENTS
    assert np.unique(np.round(rows, 10), axis=0).shape == rows.shape
    assert np.array_equal(descriptor.environments(atoms, indices=[3, 0]), rows[[3, 0]])
    assert descriptor.structure(atoms) == pytest.approx(rows.mean(axis=0), rel=1e-12, abs=1e-14)


def test_rotation_translation_and_order_change_nothing(descriptor):
    atoms = crystal()
    rows = descriptor.environments(atoms)
    moved = atoms.copy()
    moved.rotate(50.0, (1.0, -2.0, 0.7), rotate_cell=True)
    moved.translate((3.3, 14.0, -8.0))
    size = np.abs(rows).max()
    assert descriptor.environments(moved) == pytest.approx(rows, rel=1e-7, abs=1e-8 * size)
    order = np.random.default_rng(0).permutation(len(atoms))
    assert descriptor.environments(atoms[order]) == pytest.approx(rows[order], rel=1e-9, abs=1e-10 * size)


def test_elements_tell(descriptor):
    atoms = crystal()
    swapped = atoms.copy()
    swapped.symbols[0] = "Cu"
    assert not np.allclose(descriptor.environments(swapped)[0], descriptor.environments(atoms)[0])


def test_an_unknown_element_is_refused(descriptor):
    with pytest.raises(AutopipeError, match="Au"):
        descriptor.environments(Atoms("AlAu", positions=[[0, 0, 0], [0, 0, 2.5]]))
    with pytest.raises(AutopipeError, match="no atoms"):
        descriptor.structure(Atoms())


def test_projections_of_each_central_element_have_their_own_columns():
    atoms = crystal()
    rows = ace().environments(atoms)
    used = {symbol: rows[np.asarray(atoms.symbols) == symbol].any(axis=0) for symbol in ELEMENTS}
    assert not (used["Al"] & used["Cu"]).any()
    assert used["Al"].any()
    assert used["Cu"].any()
