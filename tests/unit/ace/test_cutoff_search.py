"""The cutoff follows what the labels feel: near neighbours only, or distant ones too."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import neighbor_list

from mlip_autopipec.ace.cutoff_search import COUNTS, best_cutoff
from mlip_autopipec.ace.linear import LabelledDesign
from mlip_autopipec.core.errors import DataError


def crystals(count: int = 14) -> list[Atoms]:
    frames = []
    for seed in range(count):
        atoms = bulk("Al", "fcc", a=4.05 * (1 + 0.004 * (seed % 5 - 2)), cubic=True) * (2, 1, 1)
        atoms.rattle(0.15, seed=seed)
        frames.append(atoms)
    return frames


def pair_energy(atoms: Atoms, reach: float) -> tuple[float, np.ndarray]:
    """A pair potential (1 - r / reach)^3 cos(4 r) that ends smoothly at `reach`."""
    i, r, d = neighbor_list("idD", atoms, reach)
    fade = 1 - r / reach
    slope = -3 / reach * fade**2 * np.cos(4 * r) - 4 * fade**3 * np.sin(4 * r)
    forces = np.zeros((len(atoms), 3))
    np.add.at(forces, i, (slope / r)[:, None] * d)
    return float(0.5 * np.sum(fade**3 * np.cos(4 * r))), forces


def labelled(frames: list[Atoms], reach: float, *, energy_weight: float = 100.0):
    labels = [pair_energy(atoms, reach) for atoms in frames]

    def join(place: int, design) -> LabelledDesign:
        energy, forces = labels[place]
        return LabelledDesign(str(place), design, energy, forces, np.ones(len(forces), bool), energy_weight, 1.0)

    return join


def test_forces_of_the_labels_are_those_of_their_energy() -> None:
    atoms, step = crystals(1)[0], 1e-5
    direction = np.random.default_rng(0).normal(size=(len(atoms), 3))
    energies = []
    for sign in (-1, 1):
        moved = atoms.copy()
        moved.positions += sign * step * direction
        energies.append(pair_energy(moved, 5.0)[0])
    slope = (energies[1] - energies[0]) / (2 * step)
    assert slope == pytest.approx(-np.sum(pair_energy(atoms, 5.0)[1] * direction), rel=1e-6)


def test_cutoff_follows_the_reach_of_the_labels() -> None:
    frames = crystals()
    near = best_cutoff(frames, labelled(frames, 3.6, energy_weight=0.0))
    far = best_cutoff(frames, labelled(frames, 6.4, energy_weight=0.0))
    assert list(near.errors) == list(far.errors) == sorted(near.errors)
    assert len(near.errors) == len(COUNTS)
    for search in (near, far):
        assert search.errors[search.cutoff] == min(search.errors.values())
    assert near.cutoff < far.cutoff


def test_energies_count_where_they_have_a_weight() -> None:
    frames = crystals()
    with_them, without = (best_cutoff(frames, labelled(frames, 3.6, energy_weight=w)).errors for w in (100.0, 0.0))
    # Energies are right to some meV per atom, forces to some 10 meV/A.
    assert all(with_them[cutoff] < 0.5 * without[cutoff] for cutoff in without)


def test_few_labels_keep_the_longest() -> None:
    frames = crystals(9)
    found = best_cutoff(frames, labelled(frames, 3.6))
    assert found.errors == {}
    assert found.cutoff == max(best_cutoff(crystals(10), labelled(crystals(10), 3.6)).errors)


def test_atoms_alone_are_refused() -> None:
    with pytest.raises(DataError, match="no atom has a neighbour"):
        best_cutoff([Atoms("Al")], labelled([], 3.6))
