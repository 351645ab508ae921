"""Cells that were cut go down to the energy of the frame, and no further."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from mlip_autopipec.core.interfaces import Evaluation, Evaluator, Neighbourhood
from mlip_autopipec.structures.fidelity import evaluate
from mlip_autopipec.structures.settling import settled
from small_potentials import LennardJones

EVALUATOR: Evaluator = LennardJones(("Al",), sigma=2.55, epsilon=0.3, cutoff=5.0)


def rattled(amplitude: float) -> Atoms:
    atoms = bulk("Al", a=4.05, cubic=True) * 2
    atoms.rattle(amplitude, seed=3)
    return atoms


def test_down_to_the_wanted_energy_and_no_further() -> None:
    hot, wanted = rattled(0.25), evaluate(EVALUATOR, rattled(0.12)).energy / 32
    assert evaluate(EVALUATOR, hot).energy / 32 > wanted + 0.05
    atoms, said = settled(hot, EVALUATOR, wanted)
    frozen = evaluate(EVALUATOR, rattled(0.0)).energy / 32
    assert said.energy / 32 == pytest.approx(evaluate(EVALUATOR, atoms).energy / 32)
    assert wanted - 0.5 * (wanted - frozen) < said.energy / 32 <= wanted
    assert np.array_equal(atoms.cell, hot.cell)


def test_what_is_low_enough_stays_as_it_is() -> None:
    cold = rattled(0.02)
    atoms, _ = settled(cold, EVALUATOR, 1.0)
    assert np.abs(atoms.get_all_distances(mic=True) - cold.get_all_distances(mic=True)).max() < 1e-12


def test_a_hole_of_the_potential_is_not_fallen_into() -> None:
    """Where gamma becomes larger than it was at the seam, energies say nothing."""

    class Holed(LennardJones):
        has_gamma = True

        def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
            said = super().evaluate(frame)
            grade = np.full(frame.n_owned, 5.0 if said.energy > wanted else 50.0)
            return replace(said, gamma=grade)

    hot = rattled(0.25)
    wanted = evaluate(EVALUATOR, rattled(0.12)).energy
    _, said = settled(hot, Holed(("Al",), sigma=2.55, epsilon=0.3, cutoff=5.0), -1e6)
    assert wanted < said.energy < evaluate(EVALUATOR, hot).energy


def test_what_cannot_be_reached_ends_at_the_lowest() -> None:
    atoms, said = settled(rattled(0.2), EVALUATOR, -1e6)
    assert said.energy <= evaluate(EVALUATOR, rattled(0.05)).energy
    assert np.isfinite(atoms.positions).all()
