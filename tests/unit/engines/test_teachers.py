"""Analytic teachers: right values, right cells, clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.engines.teachers.labeller import EMT_METALS, TeacherLabeller
from mlip_autopipec.engines.teachers.settings import TeacherSettings

NOWHERE = Path("/nonexistent")  # teachers write nothing


def teacher(**settings: object) -> TeacherLabeller:
    return TeacherLabeller(TeacherSettings(**settings))


def test_lennard_jones_pair() -> None:
    for distance in (2.9, 3.4, 3.4 * 2 ** (1 / 6), 6.5):
        label = teacher(model="lj").label(Atoms("Ar2", positions=[[0, 0, 0], [0, 0, distance]]), NOWHERE)
        ratio = (3.4 / distance) ** 6
        assert label.energy == pytest.approx(4 * 0.0104 * (ratio**2 - ratio))
        assert label.forces[1, 2] == pytest.approx(24 * 0.0104 * (2 * ratio**2 - ratio) / distance)
        assert label.stress is None
    assert label.info["model"] == "lj"


def test_lennard_jones_goes_smoothly_to_zero_at_the_cutoff() -> None:
    labels = [
        teacher(model="lj").label(Atoms("Ar2", positions=[[0, 0, 0], [0, 0, d]]), NOWHERE) for d in (8.499, 8.501)
    ]
    assert abs(labels[0].energy) < 1e-9
    assert np.abs(labels[0].forces).max() < 1e-6
    assert labels[1].energy == 0.0


@pytest.mark.parametrize(
    ("settings", "cell", "repeats"),
    [
        ({"model": "lj"}, bulk("Ar", a=5.2), (3, 3, 3)),
        ({"model": "emt"}, bulk("Al"), (3, 3, 3)),
        ({"model": "emt"}, bulk("Cu") * (2, 1, 1), (2, 3, 3)),
    ],
)
def test_cells_smaller_than_the_cutoff(settings: dict, cell: Atoms, repeats: tuple[int, int, int]) -> None:
    cell.rattle(0.1, seed=1)
    small, large = teacher(**settings).label(cell, NOWHERE), teacher(**settings).label(cell * repeats, NOWHERE)

    assert large.energy == pytest.approx(small.energy * np.prod(repeats), rel=1e-10)
    assert np.allclose(large.forces, np.tile(small.forces, (np.prod(repeats), 1)), atol=1e-10)
    assert np.allclose(large.stress, small.stress, atol=1e-12)


def test_two_dimensions() -> None:
    positions = np.array([(3.8 * i, 3.8 * j, 0.0) for i in range(4) for j in range(4)])
    positions[:, :2] += np.random.default_rng(0).normal(0, 0.1, (16, 2))
    labels = [
        teacher(model="lj").label(Atoms("Ar16", positions=positions, cell=[15.2, 15.2, z], pbc=(1, 1, 0)), NOWHERE)
        for z in (0.0, 3.0, 30.0)
    ]
    for label in labels:
        assert label.stress is None
        assert label.energy == pytest.approx(labels[0].energy, abs=1e-12)
        assert np.abs(label.forces[:, 2]).max() == 0.0
        assert np.abs(label.forces[:, :2]).max() > 1e-3


def test_isolated_atoms() -> None:
    assert teacher(model="lj").isolated_atom_energy("Ar", NOWHERE) == 0.0
    for metal in EMT_METALS:
        alone = teacher(model="emt").isolated_atom_energy(metal, NOWHERE)
        far = teacher(model="emt").label(Atoms([metal] * 2, positions=[[0, 0, 0], [0, 0, 20]]), NOWHERE)
        assert alone > 2.0
        assert far.energy == pytest.approx(2 * alone)


def test_labels_do_not_share_arrays() -> None:
    labeller = teacher(model="emt")
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=1)
    first = labeller.label(atoms, NOWHERE)
    kept = first.forces.copy()
    atoms.rattle(0.1, seed=2)
    labeller.label(atoms, NOWHERE)
    assert np.array_equal(first.forces, kept)


@pytest.mark.parametrize("element", ["Fe", "O"])
def test_emt_refuses_unknown_elements(element: str) -> None:
    with pytest.raises(DataError, match=f"no parameters for {element}.*it knows Ag, Al"):
        teacher(model="emt").label(bulk("Al") + Atoms(element, positions=[[0, 0, 2]]), NOWHERE)
    with pytest.raises(DataError, match=element):
        teacher(model="emt").isolated_atom_energy(element, NOWHERE)


@pytest.mark.parametrize("model", ["lj", "emt"])
def test_overlapping_atoms(model: str) -> None:
    with pytest.raises(DataError, match="on top of each other"):
        teacher(model=model).label(Atoms("Al2", positions=[[0, 0, 0], [0, 0, 0]]), NOWHERE)


def test_settings() -> None:
    full = TeacherSettings(model="lj")
    assert (full.sigma, full.epsilon, full.cutoff) == (3.4, 0.0104, 8.5)
    assert TeacherSettings.model_validate(full.model_dump(mode="json")) == full
    emt = TeacherSettings(model="emt")
    assert TeacherSettings.model_validate(emt.model_dump(mode="json")) == emt


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "emt", "sigma": 3.4}, "labeller.sigma: belongs to model lj"),
        ({"model": "lj", "cutoff": 3.5}, "labeller.cutoff: 3.5 A"),
        ({"model": "lj", "epsilon": -1.0}, "greater than 0"),
        ({"model": "eam"}, "'lj' or 'emt'"),
        ({"model": "lj", "sigmaa": 3.4}, "not permitted"),
    ],
)
def test_wrong_settings(settings: dict, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TeacherSettings(**settings)
