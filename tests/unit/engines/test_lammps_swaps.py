"""Monte Carlo moves: exact distributions where they are known, and events in a running LAMMPS."""

from __future__ import annotations

from itertools import pairwise
from math import comb

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.geometry import find_mic
from scipy.stats import chisquare

from mlip_autopipec.core.conventions import KB_EV_PER_K
from mlip_autopipec.core.interfaces import Evaluation, Neighbourhood
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.settings import MDSettings, MonteCarlo
from mlip_autopipec.engines.lammps.swaps import Moves, monte_carlo
from small_potentials import LennardJones

T = 600.0
KT = KB_EV_PER_K * T


def free(positions, point):
    return np.linalg.norm(positions - point, axis=1)


# --- the distribution ---------------------------------------------------------------------------------------------


def test_swaps_sample_a_two_level_system() -> None:
    """5 atoms of kind 1 and 7 of kind 2 on 6 + 6 sites; kind 1 pays 0.03 eV on the right: k of them are there with
    probability ~ C(6, k) C(6, 5 - k) exp(-0.03 eV k / kT)."""
    cost, sites = 0.03, np.array([[3.0 * k, 0.0, 0.0] for k in range(12)])
    kinds = np.array([1] * 5 + [2] * 7)

    def right(positions):
        return int((positions[kinds == 1, 0] > 16.0).sum())

    rng, positions, counts = np.random.default_rng(4), sites.copy(), np.zeros(6)
    accepted = 0
    for _ in range(3000):
        positions, places, tally = monte_carlo(
            positions, kinds, energy=lambda x, _: cost * right(x), distances=free, temperature=T,
            moves=Moves(swaps=12, pairs=((1, 2),)), rng=rng,
        )  # fmt: skip
        assert sorted(places) == list(range(12))
        accepted += tally.swapped
        counts[right(positions)] += 1
    assert sorted(map(tuple, positions)) == sorted(map(tuple, sites))
    weights = np.array([comb(6, k) * comb(6, 5 - k) * np.exp(-cost * k / KT) for k in range(6)])
    expected = weights / weights.sum() * counts.sum()
    # 12 attempts leave little memory: the statistic of independent draws, at a level that one seed passes or never.
    assert chisquare(counts, expected).pvalue > 1e-3
    assert 0.3 < accepted / 36_000 < 0.9


def test_jumps_sample_a_two_level_system_and_its_hard_core() -> None:
    """Two atoms that fill a periodic line of 40 A evenly, were it not for 0.05 eV on its right half and a hard core."""
    cost, length, closest = 0.05, 40.0, 6.0

    def apart(positions, point):
        d = positions[:, 0] - point[0]
        return np.abs(d - length * np.round(d / length))

    def energy(positions, _):
        return cost * float((positions[:, 0] % length > length / 2).sum())

    rng, positions, found = np.random.default_rng(5), np.array([[1.0, 0, 0], [20.0, 0, 0]]), []
    moves = Moves(jumps=40, jump_length=(4.0, 18.0), closest=closest)
    for _ in range(2500):
        positions, _, _ = monte_carlo(
            positions, [1, 1], energy=energy, distances=apart, temperature=T, moves=moves, rng=rng
        )
        found.append(positions[:, 0] % length)
    grid = np.arange(0.05, length, 0.1)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    d = np.abs(a - b)
    weight = np.exp(-cost * ((a > length / 2) * 1.0 + (b > length / 2)) / KT) * (np.minimum(d, length - d) >= closest)
    x = np.array(found)
    assert (np.minimum(abs(x[:, 0] - x[:, 1]), length - abs(x[:, 0] - x[:, 1])) >= closest).all()
    for k in range(3):
        expected = weight[((a > length / 2) * 1 + (b > length / 2)) == k].sum() / weight.sum()
        assert ((x > length / 2).sum(axis=1) == k).mean() == pytest.approx(expected, abs=0.03)


def test_infinity_and_not_a_number_are_refused() -> None:
    kinds = [1, 2]
    for worse in (np.inf, np.nan):
        x, places, tally = monte_carlo(
            np.array([[0.0, 0, 0], [1.0, 0, 0]]), kinds, energy=lambda x, _: 0.0 if x[0, 0] == 0 else worse,  # noqa: B023
            distances=free, temperature=T, moves=Moves(swaps=20, pairs=((1, 2),)), rng=np.random.default_rng(0),
        )  # fmt: skip
        assert (x[0, 0], list(places), tally.swapped) == (0.0, [0, 1], 0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "nothing would be attempted"),
        ({"swaps": 1, "pairs": [["Al", "Al"]]}, "one element"),
        ({"jumps": 1, "jump_length": [3, 2]}, "jump_length"),
    ],
)
def test_settings_that_make_no_sense(values, message) -> None:
    with pytest.raises(ValueError, match=message):
        MonteCarlo.model_validate(values)


# --- in LAMMPS ----------------------------------------------------------------------------------------------------


class Mixture(LennardJones):
    """Ar and Kr, between which the forces are weaker: they part."""

    def __init__(self, elements=("Ar", "Kr")) -> None:
        super().__init__(elements, cutoff=6.5)

    def evaluate(self, frame: Neighbourhood, *, gamma: bool = False) -> Evaluation:
        plain = super().evaluate(frame, gamma=gamma)
        i = np.repeat(np.arange(frame.n_owned), np.diff(frame.first))
        j = frame.neighbours
        d = frame.positions[j] - frame.positions[i]
        r = np.linalg.norm(d, axis=1)
        unlike = (frame.species[i] != frame.species[j]) & (r < self.cutoff)
        i, d, r = i[unlike], d[unlike], r[unlike]
        wave = np.cos(np.pi * r / self.cutoff)
        energies = 0.5 * np.bincount(i, 0.01 * (1 + wave), frame.n_owned)
        slope = -0.01 * np.pi / self.cutoff * np.sin(np.pi * r / self.cutoff)
        pull = (slope / r)[:, None] * d
        forces = np.array([np.bincount(i, pull[:, k], frame.n_owned) for k in range(3)]).T
        w = -0.5 * np.einsum("ka,kb->ab", pull, d)
        virial = np.array([w[0, 0], w[1, 1], w[2, 2], w[1, 2], w[0, 2], w[0, 1]])
        return Evaluation(
            plain.energy + energies.sum(), plain.energies + energies, plain.forces + forces, plain.virial + virial,
            plain.gamma,
        )  # fmt: skip


def mixture() -> Atoms:
    atoms = bulk("Ar", a=5.4, cubic=True).repeat(2)
    atoms.symbols[::2] = "Kr"
    atoms.positions += np.random.default_rng(1).normal(scale=0.1, size=atoms.positions.shape)
    return atoms


MIXED = MDSettings(ensemble="nvt", temperature_k=90, timestep_fs=2, monte_carlo=MonteCarlo(every=10, swaps=4), seed=3)


def unlike_bonds(atoms: Atoms) -> int:
    distances = atoms.get_all_distances(mic=True)
    kinds = atoms.numbers
    return int(((distances < 4.6) & (kinds[:, None] != kinds[None, :])).sum())


def test_swaps_keep_atoms_their_elements_and_velocities() -> None:
    with LammpsMD(Mixture(), MIXED) as md:
        start = mixture()
        md.start(start)
        md.run(10)
        before = md.frame()
        outcome = md.run(1)  # the event of step 10 comes before the step
        after = md.frame()
        assert outcome.step == 11
        assert md.tally.swaps == 8  # of step 0, too
        assert md.tally.swapped > 0
        assert (after.numbers == before.numbers).all()
        # Atoms may be put back into the box in between.
        moved = np.flatnonzero(find_mic(after.positions - before.positions, before.cell)[1] > 1.0)
        assert len(moved) >= 2
        assert (
            np.abs(after.get_velocities() - before.get_velocities()).max() < 0.3 * np.abs(after.get_velocities()).max()
        )
        between = after.positions[moved, None] - before.positions[None, moved]
        places = find_mic(between.reshape(-1, 3), before.cell)[1].reshape(len(moved), len(moved))
        assert places.min(axis=1).max() < 0.05


def test_the_energy_is_the_potentials_and_the_mixture_parts() -> None:
    with LammpsMD(Mixture(), MIXED) as md:
        md.start(mixture())
        bonds = []
        for _ in range(60):
            outcome = md.run(10)
            frame = md.frame()
            bonds.append(unlike_bonds(frame))
        there = Mixture().evaluate(neighbourhood(frame, 6.5, ("Ar", "Kr")))
        assert outcome.potential_energy == pytest.approx(there.energy, abs=1e-10)
        assert np.abs(frame.get_forces() - there.forces).max() < 1e-10
        assert np.mean(bonds[30:]) < 0.8 * bonds[0]
        assert 0 < md.tally.swapped < md.tally.swaps == 240


def test_events_are_the_same_in_chunks_and_after_a_restore(tmp_path) -> None:
    frames = []
    for chunks in ([45], [1, 9, 10, 3, 22]):
        with LammpsMD(Mixture(), MIXED) as md:
            md.start(mixture())
            for steps in chunks:
                md.run(steps)
            frames.append(md.frame())
            tally = md.tally
    assert (frames[0].positions == frames[1].positions).all()
    assert tally.swaps == 20
    with LammpsMD(Mixture(), MIXED) as md:
        md.start(mixture())
        md.run(30)  # the event of step 30 belongs to what comes after
        (tmp_path / "state").write_bytes(md.snapshot())
        md.run(15)
        saved = md.frame()
    with LammpsMD(Mixture(), MIXED) as md:
        md.restore(tmp_path / "state")
        md.run(15)
        assert md.tally.swaps == 8
        assert np.abs(md.frame().positions - saved.positions).max() < 1e-9
        assert np.abs(frames[0].positions - saved.positions).max() < 1e-9


def test_an_atom_jumps_into_a_vacancy() -> None:
    atoms = bulk("Ar", a=5.4, cubic=True).repeat(2)
    hole = atoms.positions[13].copy()
    del atoms[13]
    jumping = MonteCarlo(every=5, jumps=3000, jump_length=(3.6, 4.1), closest=3.2)
    settings = MDSettings(ensemble="nvt", temperature_k=70, timestep_fs=2, monte_carlo=jumping, seed=2)
    with LammpsMD(LennardJones(cutoff=6.5), settings) as md:
        md.start(atoms)
        md.run(41)
        frame = md.frame()
        assert md.tally.jumps == 9 * 3000
        assert md.tally.jumped > 0
        frame.positions -= (frame.positions - atoms.positions).mean(axis=0)
        sites = bulk("Ar", a=5.4, cubic=True).repeat(2)
        everything = Atoms("Ar32", [*sites.positions], cell=sites.cell, pbc=True)
        taken = {
            int(np.argmin((everything + Atoms("Ar", [x])).get_distances(32, range(32), mic=True)))
            for x in frame.positions
        }
        assert len(taken) == 31  # a lattice with one hole, as before
        assert all(a != b for a, b in pairwise(sorted(taken)))
        filled = (everything + Atoms("Ar", [hole])).get_distances(32, range(32), mic=True).argmin()
        assert int(filled) in taken or md.tally.jumped > 1


def test_gamma_is_looked_at_where_an_event_ends() -> None:
    """Attempts are not; the state that MD goes on from is, and halts at the step of the event."""
    with LammpsMD(Mixture(), MIXED) as md:
        md.gamma_every = 1000
        md.start(mixture())
        outcome = md.run(15)
        assert [step for step, _ in outcome.checks] == [0, 0, 10]
        md.halt_above = 0.0
        outcome = md.run(15)
        assert (outcome.step, outcome.halted) == (20, True)
        md.halt_above = np.inf
        before = md.tally.swaps
        assert md.run(5).step == 25
        assert md.tally.swaps == before
