"""Evaluates many monomials with few multiplications: shared pairs of factors become nodes of a graph, greedily."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mlip_autopipec.ace.lanes.polynomial import Monomial
from mlip_autopipec.ace.records import IntArray

_Pair = tuple[int, int]


@dataclass(frozen=True, eq=False)
class ProductGraph:
    """Nodes 0 .. n_variables-1 are variables; node n_variables + k is the product of nodes `factors[k]`.

    Attributes
    ----------
    factors : (n_products, 2), each below its own node
    nodes : (n_monomials,) the node that holds each monomial
    """

    n_variables: int
    factors: IntArray
    nodes: IntArray

    @property
    def n_nodes(self) -> int:
        return self.n_variables + len(self.factors)


def build_graph(monomials: Sequence[Monomial], n_variables: int) -> ProductGraph:
    """Replace, again and again, the pair of factors that most monomials share by one new node."""
    state = _Rewriting(monomials)
    factors: list[_Pair] = []
    while True:
        pair = state.most_shared()
        if pair is None:
            break
        state.replace(pair, n_variables + len(factors))
        factors.append(pair)
    return ProductGraph(
        n_variables=n_variables,
        factors=np.array(factors, dtype=np.int32).reshape(-1, 2),
        nodes=np.array([factor[0] for factor in state.monomials], dtype=np.int32),
    )


class _Rewriting:
    """Monomials on their way to single nodes, and which pairs they contain."""

    def __init__(self, monomials: Sequence[Monomial]) -> None:
        self.monomials = [tuple(monomial) for monomial in monomials]
        self.users: dict[_Pair, set[int]] = {}
        for index, monomial in enumerate(self.monomials):
            for pair in _pairs(monomial):
                self.users.setdefault(pair, set()).add(index)
        # Counts only fall for known pairs, so a stale entry is put back with its present count.
        self.heap = [(-len(users), pair) for pair, users in self.users.items()]
        heapq.heapify(self.heap)

    def most_shared(self) -> _Pair | None:
        while self.heap:
            count, pair = heapq.heappop(self.heap)
            present = len(self.users.get(pair, ()))
            if present == -count:
                return pair
            if present:
                heapq.heappush(self.heap, (-present, pair))
        return None

    def replace(self, pair: _Pair, node: int) -> None:
        touched: set[_Pair] = set()
        for index in sorted(self.users[pair]):
            old = self.monomials[index]
            remaining = list(old)
            remaining.remove(pair[0])
            remaining.remove(pair[1])
            new = tuple(sorted((*remaining, node)))
            before, after = _pairs(old), _pairs(new)
            for gone in before - after:
                self.users[gone].discard(index)
            for fresh in after - before:
                self.users.setdefault(fresh, set()).add(index)
                touched.add(fresh)
            self.monomials[index] = new
        for fresh in sorted(touched):
            heapq.heappush(self.heap, (-len(self.users[fresh]), fresh))


def _pairs(monomial: Monomial) -> set[_Pair]:
    return set(combinations(monomial, 2))
