"""Collisions across a new periodic boundary: how near is too near, and which atom has to go."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from vesin import NeighborList

FloatArray = NDArray[np.float64]
IndexArray = NDArray[np.int64]

# A collision is a contact shorter than this fraction of the usual nearest distance. Thermal liquids reach 0.8 (liquid
# Al at 1250 K: closest pair 2.07 A, usual nearest neighbour 2.55 A), so nothing that the liquid itself does is removed.
COLLISION_FRACTION = 0.8
# The usual nearest A-B distance counts up to this multiple of what the sizes of A and B would give; otherwise two rare
# impurities, which usually are far apart, would "collide" at any distance.
_RARE_PAIR_LIMIT = 1.5


@dataclass(frozen=True)
class Contact:
    """Two atoms that come too near across the new boundary; `outer` and `inner` index the window's atoms."""

    outer: int
    inner: int
    distance: float


def usual_distances(
    numbers: IndexArray,
    vectors: FloatArray,
    around_numbers: IndexArray,
    around: FloatArray,
    units: tuple[IndexArray, IndexArray] | None = None,
    quantile: float = 0.5,
) -> dict[tuple[int, int], float]:
    """Return the usual nearest distance, A, for each pair of elements (atomic numbers, both orders).

    It is the median over atoms, since the frame may hold a violently close pair, which is why it was halted; for two
    elements the smaller one of "A's nearest B" and "B's nearest A", since one of them may be rare.

    Parameters
    ----------
    numbers, vectors : (N,), (N, 3): the atoms asked about
    around_numbers, around : (M,), (M, 3): those and everything around them, A
    units : (N,), (M,), molecule of each: bonds within one are no usual distance between two; default: no molecules
    quantile : of the nearest distances; 0.5 is the usual one, small values the closest that are not violent
    """
    mine, theirs = units or (None, None)
    elements = np.unique(numbers)
    trees = {b: _Tree(around[around_numbers == b], None if theirs is None else theirs[around_numbers == b])
             for b in elements}  # fmt: skip
    nearest = {
        (a, b): trees[b].nearest(vectors[numbers == a], a == b, None if mine is None else mine[numbers == a])
        for a in elements
        for b in elements
    }
    radius = {a: float(covalent_radii[a]) for a in elements}
    # How many times the sum of covalent radii a nearest neighbour is away here: the scale of this structure.
    scaled = [np.min([nearest[a, b] / (radius[a] + radius[b]) for b in elements], axis=0) for a in elements]
    scales = np.concatenate(scaled)
    scales = scales[np.isfinite(scales)]
    if not len(scales):
        return {}
    scale = float(np.quantile(scales, quantile))
    usual = {}
    for a, b in nearest:
        seen = [
            float(np.quantile(d[np.isfinite(d)], quantile))
            for d in (nearest[a, b], nearest[b, a])
            if np.isfinite(d).any()
        ]
        by_size = scale * (radius[a] + radius[b])
        usual[int(a), int(b)] = min(*seen, _RARE_PAIR_LIMIT * by_size) if seen else by_size
    return usual


def pair_table(numbers: IndexArray, distances: dict[tuple[int, int], float]) -> FloatArray:
    """Return (N, N) the distance of `distances` for each pair of atoms of `numbers` (N,); 0 where there is none."""
    elements, kind = np.unique(numbers, return_inverse=True)
    table = np.array([[distances.get((int(a), int(b)), 0.0) for b in elements] for a in elements])
    return np.asarray(table[np.ix_(kind, kind)])


class _Tree:
    """Points of one element, with the molecule of each if there are molecules."""

    def __init__(self, points: FloatArray, units: IndexArray | None) -> None:
        self._tree, self._units = cKDTree(points), units
        self._largest = 1 if units is None or not len(units) else int(np.unique(units, return_counts=True)[1].max())

    def nearest(self, points: FloatArray, is_same_element: bool, units: IndexArray | None) -> FloatArray:
        """Return (N,) the distance from each point to the nearest atom of another unit; infinite if there is none."""
        if self._units is None or units is None:
            distances, _ = self._tree.query(points, k=[2 if is_same_element else 1])
            return np.asarray(distances, dtype=float)[:, 0]
        ranks = np.arange(1, self._largest + 2)
        distances, found = self._tree.query(points, k=ranks)
        owner = np.append(self._units, -1)[np.minimum(found, len(self._units))]
        return np.asarray(np.where(owner == units[:, None], np.inf, distances).min(axis=1))


def find_contacts(
    vectors: FloatArray,
    cell: FloatArray,
    pbc: NDArray[np.bool_],
    limits: FloatArray,
    is_new: NDArray[np.bool_],
) -> tuple[IndexArray, IndexArray, FloatArray]:
    """Find the pairs nearer than their limit that the parent does not have.

    Parameters
    ----------
    vectors : (N, 3) A
    cell, pbc : of the window
    limits : (N, N) A
    is_new : (3,) directions in which the window's period is not one of the parent's

    Returns
    -------
    first, second : (K,) indices; equal where an atom meets its own image
    distances : (K,) A
    """
    if limits.max() <= 0.0:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0)
    pairs = NeighborList(cutoff=float(limits.max()), full_list=False)
    first, second, shifts, distances = pairs.compute(vectors, cell, pbc, "ijSd")
    first, second = first.astype(np.int64), second.astype(np.int64)
    close = np.any((shifts != 0) & is_new, axis=1) & (distances < limits[first, second])
    return first[close], second[close], distances[close]


def resolve(
    contacts: tuple[IndexArray, IndexArray, FloatArray],
    vectors: FloatArray,
    distances: FloatArray,
    units: IndexArray | None = None,
) -> list[Contact]:
    """Choose the atoms to remove: going outwards from the centre, whoever meets an atom that stays has to go.

    So of each contact that matters the outer atom goes, the centre never does, and as few go as this order allows. A
    unit goes as a whole: each of its atoms is named, with the contact that was the unit's nearest.

    Parameters
    ----------
    vectors, distances : (N, 3), (N,) from the centre, A
    units : (N,) the molecule of each atom; default: every atom for itself
    """
    unit = np.arange(len(vectors)) if units is None else units
    partners: dict[int, list[tuple[int, float]]] = {}
    for i, j, d in zip(*(c.tolist() for c in contacts), strict=True):
        if unit[i] != unit[j]:
            partners.setdefault(int(unit[i]), []).append((j, d))
            partners.setdefault(int(unit[j]), []).append((i, d))
    # Equal distances are common in crystals; the vector breaks the tie, so that the order of the atoms does not matter.
    rank = {
        u: min(
            (round(float(distances[i]), 6), *np.round(vectors[i], 6).tolist(), int(i))
            for i in np.flatnonzero(unit == u)
        )
        for u in partners
    }
    stays: set[int] = set()
    removed = []
    for u in sorted(partners, key=rank.__getitem__):
        met = [(d, j) for j, d in partners[u] if int(unit[j]) in stays]
        if met:
            distance, inner = min(met)
            removed += [Contact(int(i), inner, distance) for i in np.flatnonzero(unit == u)]
        else:
            stays.add(u)
    return removed
