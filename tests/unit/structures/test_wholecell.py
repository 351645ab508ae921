"""Whole cells: density and composition of the frame, and no contact at the seam."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc100

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.structures.wholecell import whole_cell


def packed(seed: int = 0, n: int = 400, edge: float = 19.4) -> Atoms:
    """A dense disordered structure whose atoms keep about 2.3 A apart, Al with 40 % Cu."""
    rng = np.random.default_rng(seed)
    place = rng.uniform(0, edge, (n, 3))
    for _ in range(150):
        between = place[:, None] - place[None]
        between -= edge * np.round(between / edge)
        distances = np.linalg.norm(between, axis=2) + 1e9 * np.eye(n)
        missing = np.clip(2.5 - distances, 0.0, None)
        place = place + 0.4 * ((missing / distances)[:, :, None] * between).sum(axis=1)
    cell = edge * np.eye(3)
    atoms = Atoms(
        rng.permutation(["Al"] * int(0.6 * n) + ["Cu"] * (n - int(0.6 * n))), positions=place, cell=cell, pbc=True
    )
    atoms.wrap()
    return atoms


def nearest(atoms: Atoms) -> np.ndarray:
    distances = atoms.get_all_distances(mic=True) + 1e9 * np.eye(len(atoms))
    return distances.min(axis=1)


@pytest.mark.parametrize("seed", range(4))
def test_disordered_frames(seed: int) -> None:
    frame = packed(seed)
    cell = whole_cell(frame, 32, seed=seed)
    assert 28 <= len(cell) <= 36
    assert len(cell) / cell.get_volume() == pytest.approx(len(frame) / frame.get_volume())
    assert np.mean(cell.numbers == 29) == pytest.approx(0.4, abs=0.07)
    assert nearest(cell).min() > 0.95 * np.quantile(nearest(frame), 0.05)
    assert cell.pbc.all()


def test_the_same_seed_gives_the_same_cell() -> None:
    frame = packed(1)
    one, two, other = (whole_cell(frame, 32, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(one.positions, two.positions)
    assert len(one) != len(other) or not np.allclose(one.positions, other.positions)


def test_crystals_give_a_multiple_of_their_repeats() -> None:
    frame = bulk("Al", cubic=True) * (5, 5, 5)
    frame.rattle(0.15, seed=2)
    cell = whole_cell(frame, 32, seed=1)
    assert len(cell) == 32
    assert cell.cell.cellpar() == pytest.approx([8.1] * 3 + [90] * 3)
    assert nearest(cell).min() > 0.9 * nearest(frame).min()


def test_ionic_cells_keep_the_formula() -> None:
    frame = bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (4, 4, 4)
    frame.rattle(0.15, seed=2)
    del frame[9]
    cell = whole_cell(frame, 32, seed=2)
    assert np.sum(cell.numbers == 11) == np.sum(cell.numbers == 17) > 0


def test_small_frames_are_themselves() -> None:
    frame = bulk("Al", cubic=True) * 2
    frame.pbc = (True, True, False)
    frame.arrays["gamma"] = np.ones(len(frame))
    cell = whole_cell(frame, 32)
    assert np.array_equal(cell.positions, frame.positions)
    assert cell.pbc.tolist() == [True, True, False]


def test_vacuum_does_not_dilute_the_phase() -> None:
    slab = fcc100("Al", (6, 6, 10), vacuum=8.0, periodic=True)
    slab.rattle(0.25, seed=3)
    cell = whole_cell(slab, 32, seed=4)
    density = 4 / 4.05**3
    assert len(cell) / cell.get_volume() == pytest.approx(density, rel=0.1)


def test_large_open_frames_are_refused() -> None:
    frame = bulk("Al", cubic=True) * 4
    frame.pbc = (True, True, False)
    with pytest.raises(DataError, match="open directions"):
        whole_cell(frame, 32)
