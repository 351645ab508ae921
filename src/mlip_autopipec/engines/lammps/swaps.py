"""Monte Carlo between MD steps: atoms of two elements change places, an atom jumps into free space.

Metropolis et al. 1953, doi:10.1063/1.1699114. Every proposal is as likely as its reverse, so that a move is accepted
with probability ``min(1, exp(-dE / kT))``. Velocities go with their atoms: momenta are independent of positions in
the canonical ensemble, so its distribution is kept. The random numbers of an event follow from the walker's seed and
the step alone: a walker that resumes repeats it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mlip_autopipec.core.conventions import KB_EV_PER_K
from mlip_autopipec.core.interfaces import FloatArray, IntArray

Energy = Callable[[FloatArray, IntArray], float]
Distances = Callable[[FloatArray, FloatArray], FloatArray]


@dataclass(frozen=True)
class Moves:
    """What one event attempts; see `engines.lammps.settings.MonteCarlo`. Lengths in A."""

    swaps: int = 0
    pairs: tuple[tuple[int, int], ...] = ()
    jumps: int = 0
    jump_length: tuple[float, float] = (2.0, 4.0)
    closest: float = 1.6


@dataclass
class Tally:
    """Attempted and accepted moves."""

    swaps: int = 0
    swapped: int = 0
    jumps: int = 0
    jumped: int = 0

    def add(self, other: Tally) -> None:
        """Count another event's moves, too."""
        self.swaps += other.swaps
        self.swapped += other.swapped
        self.jumps += other.jumps
        self.jumped += other.jumped

    def __str__(self) -> str:
        return f"{self.swapped} of {self.swaps} swaps, {self.jumped} of {self.jumps} jumps accepted"


def monte_carlo(
    positions: FloatArray,
    species: Sequence[int] | IntArray,
    *,
    energy: Energy,
    distances: Distances,
    temperature: float,
    moves: Moves,
    rng: np.random.Generator,
    plane: bool = False,
) -> tuple[FloatArray, IntArray, Tally]:
    """Make one event.

    Parameters
    ----------
    positions : (N, 3) A
    species : (N,) the kind of each atom
    energy
        Gives eV of positions (N, 3), where atom i stands in the image of the cell that ``places[i]`` was in.
    distances
        Gives the distances (N,), A, of all atoms of positions (N, 3) from a point (3,).
    temperature : K
    plane
        Jumps keep z.

    Returns
    -------
    positions (N, 3), places (N,) and tally. ``places[i]`` is the atom whose former place (and image of the cell) atom
    i has now: i itself unless it changed places.
    """
    kinds = np.asarray(species)
    event = _Event(np.array(positions, dtype=float), np.arange(len(kinds), dtype=np.int32), energy, temperature, rng)
    tally = Tally(swaps=moves.swaps, jumps=moves.jumps)
    for _ in range(moves.swaps):
        tally.swapped += _swap(event, kinds, moves.pairs)
    for _ in range(moves.jumps):
        tally.jumped += _jump(event, moves, distances, plane)
    return event.positions, event.places, tally


class _Event:
    """The present state and its energy, asked for only when something is compared with it."""

    def __init__(
        self, positions: FloatArray, places: IntArray, energy: Energy, temperature: float, rng: np.random.Generator
    ) -> None:
        self.positions, self.places, self.rng = positions, places, rng
        self._energy_of, self._kt = energy, KB_EV_PER_K * temperature
        self._energy: float | None = None

    def accepts(self, positions: FloatArray, places: IntArray) -> bool:
        """Let Metropolis decide; take the new state if he accepts it."""
        if self._energy is None:
            self._energy = self._energy_of(self.positions, self.places)
        energy = self._energy_of(positions, places)
        # Not a number is never accepted.
        if not (energy <= self._energy or self.rng.random() < np.exp((self._energy - energy) / self._kt)):
            return False
        self.positions, self.places, self._energy = positions, places, energy
        return True


def _swap(event: _Event, kinds: IntArray, pairs: Sequence[tuple[int, int]]) -> bool:
    """Attempt to let one atom of each kind of a random pair change places; elements that are absent do nothing."""
    one, two = pairs[int(event.rng.integers(len(pairs)))]
    first, second = np.flatnonzero(kinds == one), np.flatnonzero(kinds == two)
    if not len(first) or not len(second):
        return False
    i, j = int(event.rng.choice(first)), int(event.rng.choice(second))
    positions, places = event.positions.copy(), event.places.copy()
    positions[[i, j]], places[[i, j]] = positions[[j, i]], places[[j, i]]
    return event.accepts(positions, places)


def _jump(event: _Event, moves: Moves, distances: Distances, plane: bool) -> bool:
    """Attempt to move one atom by a random vector; a place too near to another atom counts as infinite energy."""
    rng = event.rng
    i = int(rng.integers(len(event.positions)))
    vector = rng.normal(size=3)
    if plane:
        vector[2] = 0.0
    vector *= rng.uniform(*moves.jump_length) / np.linalg.norm(vector)
    target = event.positions[i] + vector
    near = distances(event.positions, target)
    near[i] = np.inf
    if near.min() < moves.closest:
        return False
    positions = event.positions.copy()
    positions[i] = target
    return event.accepts(positions, event.places)
