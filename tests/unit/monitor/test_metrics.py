"""Errors by group, element and between phases, of labels whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.units import GPa

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.monitor.metrics import Said, measures, said_by
from mlip_autopipec.store.dataset import DatasetRow


def said(kind: str, energy: float, error: float, mask=(1, 1)) -> Said:
    """Two atoms; the potential is wrong by `error` eV/atom, by 0.3 eV/A along x on Al and by 1 on Ni."""
    atoms = Atoms("AlNi", positions=[[0, 0, 0], [0, 0, 2.5]], cell=[5, 5, 5], pbc=True)
    forces = np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]])
    row = DatasetRow(f"{kind}{energy}", atoms, energy, forces, np.zeros(6), mask, kind)
    stress = np.full(6, 2.0 * GPa)
    return Said(row, energy, energy + 2 * error, forces + np.array([[0.3, 0, 0], [1.0, 0, 0]]), stress)


def test_numbers_are_what_they_were_made_of():
    found = measures([said("solid", -4.0, 0.001), said("solid", -4.2, 0.001), said("liquid", -3.6, 0.003)])
    assert found["energy_mae_mev"] == pytest.approx(5 / 3)
    assert found["energy_rmse_mev"] == pytest.approx(np.sqrt((1 + 1 + 9) / 3))
    assert found["groups"]["liquid"]["energy_mae_mev"] == pytest.approx(3.0)
    assert found["elements"]["Al"]["force_rmse"] == pytest.approx(0.3 / np.sqrt(3))
    assert found["elements"]["Ni"]["force_mae"] == pytest.approx(1.0 / 3)
    assert found["stress_mae_gpa"] == pytest.approx(2.0)
    assert found["force_cosine"] == pytest.approx((2.0 / np.hypot(2.0, 0.3) + 1.0) / 2)
    (between,) = found["phases"]
    assert between["groups"] == ["liquid", "solid"]
    assert between["label"] == pytest.approx(-250.0)
    assert between["error"] == pytest.approx(-2.0)


def test_masked_atoms_and_cells_do_not_count():
    found = measures([said("carved", -4.0, 5.0, mask=(1, 0))])
    assert found["energy_rmse_mev"] is None
    assert found["stress_rmse_gpa"] is None
    assert found["force_rmse"] == pytest.approx(0.3 / np.sqrt(3))
    assert found["phases"] == []
    assert found["elements"]["Ni"]["force_rmse"] is None


def test_an_element_without_an_isolated_atom_is_named():
    row = said("solid", -4.0, 0.0).row
    with pytest.raises(DataError, match="isolated Ni atom"):
        said_by(None, [row], {"Al": 0.0})  # type: ignore[arg-type]
