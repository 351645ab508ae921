"""Fitted reference energies."""

import pytest
from ase import Atoms

from mlip_autopipec.ace.references import fitted_references
from mlip_autopipec.core.errors import DataError


def test_recovers_what_the_compositions_tell():
    structures = [Atoms("Al2Ni"), Atoms("AlNi3"), Atoms("Al4")]
    energies = [2 * -3.0 - 5.0, -3.0 - 15.0, -12.0]
    found = fitted_references(structures, energies)
    assert found.identifiable
    assert found.energies == pytest.approx({"Al": -3.0, "Ni": -5.0})
    assert "compositions" not in found.warning


def test_says_when_the_compositions_do_not_tell():
    structures = [Atoms("AlNi"), Atoms("Al2Ni2")]
    found = fitted_references(structures, [-8.0, -16.0])
    assert not found.identifiable
    assert found.energies["Al"] + found.energies["Ni"] == pytest.approx(-8.0)
    assert "compositions" in found.warning


def test_small_cells_count_as_much_as_large_ones():
    assert fitted_references([Atoms("Al"), Atoms("Al100")], [-1.0, -300.0]).energies["Al"] == pytest.approx(-2.0)


def test_nothing_is_refused():
    with pytest.raises(DataError, match="no structure"):
        fitted_references([], [])
