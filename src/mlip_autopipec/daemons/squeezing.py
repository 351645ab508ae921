"""Structures that nobody trained on, made of those that were: pairs pushed together, crystals swollen and pressed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations_with_replacement
from typing import Any, Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.interfaces import Evaluation, FloatArray, IntArray
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.store.dataset import DatasetRow

# Nearest neighbours of any matter are nearer, A.
_REACH: Final = 4.5
# The first distance of a squeeze, of the shortest trained one; and the last, A.
_FIRST, _LAST = 0.85, 0.5
_DISTANCES: Final = 5
# Down to where a baseline must push, A.
_CORE: Final = 0.3
_PUSHES: Final = 16
# Lengths of a crystal, of its own: volumes from 0.78 to 1.26.
_SCALES: Final = tuple(np.linspace(0.92, 1.08, 9))

Pair = tuple[str, str]


class ShortestPairs:
    """The shortest trained distance of each pair of elements; each structure is looked at once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, bytes], tuple[dict[Pair, float], dict[Pair, float]]] = {}

    def of(self, rows: Iterable[DatasetRow], *, masked: bool = False) -> dict[Pair, float]:
        """Return pair of elements -> A, over pairs of which one atom at least is learned, or with `masked` over all."""
        shortest: dict[Pair, float] = {}
        for row in rows:
            key = (row.task_id, row.edition, row.learned.tobytes())
            if key not in self._known:
                self._known[key] = _shortest_in(row)
            for pair, distance in self._known[key][masked].items():
                shortest[pair] = min(distance, shortest.get(pair, distance))
        return shortest


def _shortest_in(row: DatasetRow) -> tuple[dict[Pair, float], dict[Pair, float]]:
    elements, centres, neighbours, vectors = _pairs_of(row.atoms)
    distances = np.linalg.norm(vectors, axis=1)
    kinds = np.asarray(row.atoms.get_chemical_symbols())
    found: tuple[dict[Pair, float], dict[Pair, float]] = ({}, {})
    for one, other in combinations_with_replacement(elements, 2):
        of_kind = (kinds[centres] == one) & (kinds[neighbours] == other)
        learned = of_kind & (row.learned[centres] | row.learned[neighbours])
        for shortest, counts in zip(found, (learned, of_kind), strict=True):
            if counts.any():
                shortest[one, other] = float(distances[counts].min())
    return found


def _pairs_of(atoms: Atoms) -> tuple[list[str], IntArray, IntArray, FloatArray]:
    """Return the elements, and all pairs within reach in either order: two atoms and the vector between them, A."""
    elements = sorted(set(atoms.get_chemical_symbols()))
    frame = neighbourhood(atoms, _REACH, elements)
    centres = np.repeat(np.arange(frame.n_owned, dtype=np.int32), np.diff(frame.first))
    vectors = frame.positions[frame.neighbours] - frame.positions[centres]
    return elements, centres, frame.owners[frame.neighbours], vectors


def squeezed_gammas(
    rows: Sequence[DatasetRow], shortest: Mapping[Pair, float], evaluate: Callable[[Atoms], Evaluation]
) -> Iterator[dict[str, Any]]:
    """Yield pair, distance (A) and largest gamma of frames in which one pair was pushed together."""
    for row in rows:
        for pair, distance in shortest.items():
            place = _closest(row.atoms, pair)
            if place is None or _FIRST * distance <= _LAST:
                continue
            for d in np.geomspace(_FIRST * distance, _LAST, _DISTANCES):
                try:
                    gamma = evaluate(squeezed(row.atoms, *place, float(d))).gamma
                except AutopipeError:  # the engine refuses it: MD would stop as well
                    continue
                largest = float(np.max(gamma)) if gamma is not None else 0.0
                yield {"pair": "-".join(pair), "distance": float(d), "gamma": min(largest, 1e9)}


def squeezed_pushes(
    rows: Sequence[DatasetRow],
    shortest: Mapping[Pair, float],
    evaluate: Callable[[Atoms], Evaluation],
    *,
    first: float = _FIRST,
) -> Iterator[dict[str, Any]]:
    """Yield pair, distance (A) and push of frames in which one pair was pushed together.

    The push is half of what drives the two atoms apart, eV/A.

    Parameters
    ----------
    first
        Where to begin, of the shortest trained distance. A pair that was never trained nearer than its bond may well
        attract there, so nearer is asked for by default.
    """
    for row in rows:
        for pair, distance in shortest.items():
            place = _closest(row.atoms, pair)
            if place is None:
                continue
            i, j, vector = place
            along = vector / np.linalg.norm(vector)
            for d in np.geomspace(first * distance, _CORE, _PUSHES):
                forces = evaluate(squeezed(row.atoms, *place, float(d))).forces
                push = float((forces[j] - forces[i]) @ along) / 2
                yield {"pair": "-".join(pair), "distance": float(d), "push": push}


def squeezed(atoms: Atoms, i: int, j: int, vector: np.ndarray, distance: float) -> Atoms:
    """Return a copy in which atom `i` and the image of `j` at `vector` (A) from it are `distance` (A) apart."""
    copy: Atoms = atoms.copy()
    length = float(np.linalg.norm(vector))
    shift = (length - distance) / 2 * vector / length
    copy.positions[i] += shift
    copy.positions[j] -= shift
    return copy


def reachable_energies(
    atoms: Atoms, evaluate: Callable[[Atoms], Evaluation], level: float
) -> tuple[list[float], list[float]]:
    """Return scales of length around 1 at which gamma is below `level`, and the energies there in eV per atom."""
    found = [evaluate(_scaled(atoms, float(scale))) for scale in _SCALES]
    below = [said.gamma is not None and float(np.max(said.gamma)) <= level for said in found]
    low = high = len(_SCALES) // 2
    if not below[low]:
        return [], []
    while low > 0 and below[low - 1]:
        low -= 1
    while high < len(_SCALES) - 1 and below[high + 1]:
        high += 1
    reached = range(low, high + 1)
    return [float(_SCALES[k]) for k in reached], [found[k].energy / len(atoms) for k in reached]


def _scaled(atoms: Atoms, scale: float) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.set_cell(np.asarray(atoms.cell) * scale, scale_atoms=True)
    return copy


def _closest(atoms: Atoms, pair: Pair) -> tuple[int, int, np.ndarray] | None:
    """Return the nearest two different atoms of a pair of elements, and the vector between them; None without one."""
    _, centres, neighbours, vectors = _pairs_of(atoms)
    kinds = np.asarray(atoms.get_chemical_symbols())
    wanted = (centres != neighbours) & (kinds[centres] == pair[0]) & (kinds[neighbours] == pair[1])
    if not wanted.any():
        return None
    places = np.flatnonzero(wanted)
    nearest = int(places[np.argmin(np.linalg.norm(vectors[places], axis=1))])
    return int(centres[nearest]), int(neighbours[nearest]), vectors[nearest]
