"""Monte Carlo events in a running LAMMPS: between two runs, with energies from whatever gives LAMMPS its forces.

LAMMPS' own `fix atom/swap` sees the energies of `fix external`, too (measured: forces and energies stay those of the
potential), but it exchanges types instead of places, so that an atom's number would change its element, and it has no
jumps into vacancies. Here as there, an attempt costs one evaluation of all atoms.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np

from mlip_autopipec.core.interfaces import FloatArray, IntArray
from mlip_autopipec.engines.lammps.settings import MonteCarlo
from mlip_autopipec.engines.lammps.snapshot import Origin
from mlip_autopipec.engines.lammps.state import box_vectors, owned
from mlip_autopipec.engines.lammps.swaps import Moves, Tally, monte_carlo


class MonteCarloEvents:
    """The events of one walker.

    Parameters
    ----------
    settings
        None for a walker without Monte Carlo.
    seed
        With the step it gives an event's random numbers.
    """

    def __init__(self, settings: MonteCarlo | None, seed: int) -> None:
        self._settings = settings
        self._seed = seed
        self._last = -1

    def forget(self) -> None:
        """Called when MD goes back: the event of the present step may be due again."""
        self._last = -1

    def due(self, step: int) -> bool:
        """True if MD must not go on from `step` without an event; an event belongs to the beginning of its step."""
        return self._settings is not None and step % self._settings.every == 0 and step != self._last

    def before(self, step: int, target: int) -> int:
        """Return the last step, at most `target`, that MD may reach without an event."""
        if self._settings is None:
            return target
        return min(target, step - step % self._settings.every + self._settings.every)

    def run(self, lmp: Any, origin: Origin, temperature: float, step: int, energy: Callable[[], float]) -> Tally:
        """Make the event of `step`.

        Parameters
        ----------
        temperature : K
        energy
            Lets LAMMPS set up and returns the energy of the positions that stand in its arrays, eV.
        """
        if self._settings is None:
            return Tally()
        self._last = step
        order = np.argsort(owned(lmp, "id"))
        positions, images = owned(lmp, "x")[order], owned(lmp, "image")[order]

        def place(wanted: FloatArray, places: IntArray) -> None:
            rows = owned(lmp, "id") - 1
            lmp.numpy.extract_atom("x")[: len(rows)] = wanted[rows]
            lmp.numpy.extract_atom("image")[: len(rows)] = images[places[rows]]

        def energy_of(wanted: FloatArray, places: IntArray) -> float:
            place(wanted, places)
            return energy()

        kinds = owned(lmp, "type")[order]
        final, places, tally = monte_carlo(
            positions,
            kinds,
            energy=energy_of,
            distances=_minimum_image(box_vectors(lmp), origin),
            temperature=temperature,
            moves=_moves(self._settings, origin.elements),
            rng=np.random.default_rng((self._seed, step)),
            plane=origin.box.dimension == 2,
        )
        place(final, places)
        return tally


def _moves(settings: MonteCarlo, elements: tuple[str, ...]) -> Moves:
    """Return an event's moves, elements as LAMMPS' types."""
    named = settings.pairs or tuple(combinations(elements, 2))
    kind = {element: i + 1 for i, element in enumerate(elements)}
    # An element that the potential does not know has no atoms here.
    pairs = tuple((kind[a], kind[b]) for a, b in named if a in kind and b in kind)
    return Moves(settings.swaps if pairs else 0, pairs, settings.jumps, settings.jump_length, closest=settings.closest)


def _minimum_image(box: FloatArray, origin: Origin) -> Callable[[FloatArray, FloatArray], FloatArray]:
    """Return what gives distances (N,), A; right for those below half the smallest height of the cell."""
    periodic = np.array([p or (origin.box.dimension == 2 and k == 2) for k, p in enumerate(origin.box.pbc)])
    inverse = np.linalg.inv(box)

    def distances(positions: FloatArray, point: FloatArray) -> FloatArray:
        d = positions - point
        d -= (np.round(d @ inverse) * periodic) @ box
        return np.asarray(np.sqrt((d * d).sum(axis=1)))

    return distances
