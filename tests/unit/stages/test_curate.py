"""Curating: what a result and a start structure become, and what is refused."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.stages.curate import row_of_frame, row_of_result
from mlip_autopipec.store.results import make_result
from mlip_autopipec.store.task import Task

LABELLER = {"engine": "teacher", "model": "lj", "sigma": 3.4}
NOW = "2026-01-01T00:00:00.000Z"


def pair(distance=3.6, pbc=False):
    return Atoms("Ar2", positions=[[0, 0, 0], [distance, 0, 0]], cell=[9, 9, 9], pbc=pbc)


def result(mask=(1, 1), forces=((-1, 0, 0), (1, 0, 0)), labeller=LABELLER, stress=None):
    task = Task.new(
        pair(), mask, labeller,
        priority=12.5, origin={"walker": "w01", "step": 7}, config_type="active_learning", created=NOW,
    )  # fmt: skip
    return make_result(task, Label(-0.5, np.array(forces, dtype=float), stress), "dft-0", NOW)


def test_a_result_becomes_a_row():
    record = result(stress=np.arange(6.0))
    row = row_of_result(record, LABELLER, force_limit=100)
    assert row.task_id == record["id"]
    assert (row.energy, row.config_type, row.uncertainty_gamma) == (-0.5, "active_learning", 12.5)
    assert row.origin == {"walker": "w01", "step": 7}
    np.testing.assert_array_equal(row.stress, np.arange(6.0))
    assert row.whole


def test_labels_of_other_settings_are_refused_with_the_difference():
    with pytest.raises(DataError, match=r"sigma 3\.4 instead of 3\.5"):
        row_of_result(result(), {**LABELLER, "sigma": 3.5}, force_limit=100)


def test_learned_forces_have_a_limit_and_masked_ones_do_not():
    huge = ((-1e4, 0, 0), (1, 0, 0))
    with pytest.raises(DataError, match="force_limit"):
        row_of_result(result(forces=huge), LABELLER, force_limit=100)
    assert not row_of_result(result(mask=(0, 1), forces=huge), LABELLER, force_limit=100).whole


def test_nothing_to_learn_is_refused():
    with pytest.raises(DataError, match="nothing to learn"):
        row_of_result(result(mask=(0, 0)), LABELLER, force_limit=100)


def test_a_frame_and_the_task_that_would_label_it_are_one_row():
    atoms = pair()
    atoms.calc = SinglePointCalculator(atoms, energy=-0.5, forces=np.zeros((2, 3)))
    row = row_of_frame(atoms, 0, LABELLER, force_limit=100)
    assert row.task_id == result()["id"]
    assert (row.config_type, row.whole, row.stress) == ("bootstrap", True, None)
    assert row.atoms.calc is None


def test_a_frame_may_bring_mask_kind_and_stress():
    atoms = pair(pbc=True)
    tensor = np.array([[1.0, 6, 5], [6, 2, 4], [5, 4, 3]])
    atoms.calc = SinglePointCalculator(atoms, energy=-0.5, forces=np.zeros((2, 3)), stress=tensor)
    atoms.arrays["force_mask"] = np.array([0, 1])
    atoms.info["config_type"] = "liquid"
    row = row_of_frame(atoms, 3, LABELLER, force_limit=100)
    assert (row.force_mask, row.config_type) == ((0, 1), "liquid")
    np.testing.assert_array_equal(row.stress, [1, 2, 3, 4, 5, 6])
    assert row.origin == {"source": "start.dataset", "number": 3}


def test_a_strange_mask_names_the_frame():
    atoms = pair()
    atoms.calc = SinglePointCalculator(atoms, energy=-0.5, forces=np.zeros((2, 3)))
    atoms.arrays["force_mask"] = np.array([0, 2])
    with pytest.raises(DataError, match="frame 3"):
        row_of_frame(atoms, 3, LABELLER, force_limit=100)
