"""Couples rank spherical harmonics to an invariant: trees, generalised Clebsch-Gordan coefficients, compression.

The tree takes the leaves in pairs from the left, then couples the two oldest nodes until one is left; an odd leaf
joins last. Dusson et al., doi:10.1016/j.jcp.2022.110946; the tree's shape is pacemaker's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from mlip_autopipec.ace.clebsch import clebsch_gordan_table, listed_table
from mlip_autopipec.ace.records import FloatArray, IntArray

_NEGLIGIBLE = 1e-15
_MOST_VECTORS = 10_000_000


@cache
def tree(rank: int) -> tuple[tuple[int, int], ...]:
    """Return the couplings (older, younger) in the order in which they make nodes rank, rank + 1, ...

    Nodes 0 .. rank-1 are the leaves; the last coupling makes the root (L = 0).
    """
    couplings = [(leaf, leaf + 1) for leaf in range(0, rank - 1, 2)]
    queue = list(range(rank, rank + len(couplings)))
    while len(queue) > 1:
        couplings.append((queue.pop(0), queue.pop(0)))
        queue.append(rank + len(couplings) - 1)
    if rank % 2 and rank > 1:
        couplings.append((queue.pop(), rank - 1))
    return tuple(couplings)


def coupling_problem(ls: tuple[int, ...], LS: tuple[int, ...]) -> str | None:
    """Return why `ls` cannot be coupled to an invariant over intermediates `LS`, or None."""
    rank = len(ls)
    if len(LS) != max(0, rank - 2):
        return f"rank {rank} needs {max(0, rank - 2)} intermediate l (lint), found {len(LS)}"
    if math.prod(2 * angular + 1 for angular in ls) > _MOST_VECTORS:
        return f"{list(ls)} has too many combinations of m"
    if sum(ls) % 2:
        return f"the sum of {list(ls)} must be even"
    if rank == 1:
        return None if ls == (0,) else f"a rank-1 function needs l = 0, found {ls[0]}"
    angular = [*ls, *LS, 0]
    for node, (older, younger) in enumerate(tree(rank)):
        first, second, result = angular[older], angular[younger], angular[rank + node]
        if not abs(first - second) <= result <= first + second:
            return f"l {first} and {second} cannot couple to {result} in {list(ls)} with lint {list(LS)}"
    return None


@dataclass(frozen=True, eq=False)
class Coupling:
    """Which m-vectors a function sums over, and their weights.

    Attributes
    ----------
    ms : (n, rank)
    weights : (n,), the factor 2 of the half-space included
    """

    ms: IntArray
    weights: FloatArray


@cache
def generalised_clebsch_gordan(ls: tuple[int, ...], LS: tuple[int, ...]) -> Coupling:
    """Return the half-space coupling: m-vectors that files list, in generation order (first index fastest)."""
    rank = len(ls)
    if rank == 1:
        return Coupling(np.zeros((1, 1), dtype=np.int32), np.ones(1))
    ms = _vectors_of_zero_sum(ls)
    weights, listed = np.ones(len(ms)), np.ones(len(ms), dtype=bool)
    angular = [*ls, *LS, 0]
    projections = [ms[:, leaf] for leaf in range(rank)]
    for node, (older, younger) in enumerate(tree(rank)):
        L = angular[rank + node]
        first, second = projections[older], projections[younger]
        place = first + angular[older], second + angular[younger]
        weights *= clebsch_gordan_table(angular[older], angular[younger], L)[place]
        listed &= listed_table(angular[older], angular[younger], L)[place]
        # Where |M| > L the weight is zero already; the clip only keeps the next look-up in bounds.
        projections.append(np.clip(first + second, -L, L))
    leading = np.take_along_axis(ms, (ms != 0).argmax(axis=1)[:, None], axis=1)[:, 0]
    weights = np.where(leading > 0, 2.0 * weights, weights)
    keep = (leading >= 0) & listed
    return Coupling(np.ascontiguousarray(ms[keep]), weights[keep])


def _vectors_of_zero_sum(ls: tuple[int, ...]) -> IntArray:
    axes = [np.arange(-angular, angular + 1, dtype=np.int32) for angular in ls[::-1]]
    grid = np.stack([axis.ravel() for axis in np.meshgrid(*axes, indexing="ij")], axis=1)[:, ::-1]
    return np.ascontiguousarray(grid[grid.sum(axis=1) == 0])


@dataclass(frozen=True, eq=False)
class SlottedCoupling:
    """A function's slots in sorted or original order, and its coupling in that order.

    Attributes
    ----------
    order : (rank,) which original slot stands at each place
    """

    order: tuple[int, ...]
    ms: IntArray
    weights: FloatArray


# Every version of a run has the same functions; `coupling` is one of the cached ones.
@lru_cache(maxsize=20_000)
def compress(mus: tuple[int, ...], ns: tuple[int, ...], ls: tuple[int, ...], coupling: Coupling) -> SlottedCoupling:
    """Merge m-vectors that are equal up to the order of slots and drop negligible ones, if that makes it shorter.

    Sorting (mu, n, l, m) gives every product one form. The slots are then sorted by (mu, n, l), the m-vectors
    lexicographic; otherwise everything stays as generated.
    """
    rank = len(ls)
    unchanged = SlottedCoupling(tuple(range(rank)), coupling.ms, coupling.weights)
    slots = list(zip(mus, ns, ls, strict=True))
    if len(set(slots)) == rank and (np.abs(coupling.weights) >= _NEGLIGIBLE).all():
        return unchanged
    order = tuple(sorted(range(rank), key=lambda t: slots[t]))
    merged: dict[tuple[int, ...], float] = {}
    for vector, weight in zip(coupling.ms[:, order].tolist(), coupling.weights.tolist(), strict=True):
        ranked = sorted((*slots[t], m) for t, m in zip(order, vector, strict=True))
        key = tuple(entry[3] for entry in ranked)
        merged[key] = merged.get(key, 0.0) + weight
    kept = sorted(key for key, weight in merged.items() if abs(weight) >= _NEGLIGIBLE)
    if len(kept) >= len(coupling.ms):
        return unchanged
    ms = np.array(kept, dtype=np.int32).reshape(len(kept), rank)
    return SlottedCoupling(order, ms, np.array([merged[key] for key in kept]))
