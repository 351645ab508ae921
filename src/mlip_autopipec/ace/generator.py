"""The standard basis: a complete, independent set of invariant functions within limits by rank.

For each set of radial functions and angular momenta, intermediate momenta are taken in lexicographic order as long as
the coupled function is linearly independent of those taken. Dusson et al., doi:10.1016/j.jcp.2022.110946.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import combinations, combinations_with_replacement, product

import numpy as np

from mlip_autopipec.ace.coupling import coupling_problem, generalised_clebsch_gordan
from mlip_autopipec.ace.records import Block, Bond, Configuration, Embedding, FunctionSpec
from mlip_autopipec.core.errors import ModelError

LARGEST_L = (0, 10, 6, 4, 3, 2, 2, 1, 1, 1, 1, 1)
"""Largest l by rank that pacemaker's table of invariants has; it would silently leave larger ones out."""
_BY_COUNT = {1: "UNARY", 2: "BINARY", 3: "TERNARY", 4: "QUATERNARY", 5: "QUINARY"}


@dataclass(frozen=True)
class FunctionLimits:
    """Which functions a block has.

    Attributes
    ----------
    nradmax_by_orders : largest radial index by rank; the first is the number of rank-1 functions
    lmax_by_orders : largest angular momentum by rank; 0 for rank 1
    """

    nradmax_by_orders: tuple[int, ...]
    lmax_by_orders: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.nradmax_by_orders) != len(self.lmax_by_orders) or not self.nradmax_by_orders:
            raise ModelError("nradmax_by_orders and lmax_by_orders need one number per rank each")
        for rank, (lmax, largest) in enumerate(zip(self.lmax_by_orders, LARGEST_L, strict=False), start=1):
            if not 0 <= lmax <= largest:
                raise ModelError(
                    f"lmax_by_orders: {lmax} for rank {rank}, the tables of invariants have 0 to {largest}"
                )
        if len(self.nradmax_by_orders) > len(LARGEST_L):
            raise ModelError(f"rank {len(self.nradmax_by_orders)} is above {len(LARGEST_L)}")


@dataclass(frozen=True)
class RadialSettings:
    """Radial functions of a pair; R_nl = g_n.

    Attributes
    ----------
    rcut, dcut, r_in, delta_in : A, see `records.Bond`
    core_repulsion : strength and exponent
    """

    rcut: float
    radbase: str = "ChebExpCos"
    radparameters: tuple[float, ...] = (5.25,)
    dcut: float = 0.01
    r_in: float = 0.0
    delta_in: float = 0.0
    inner_cutoff_type: str = "density"
    core_repulsion: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class BasisRecipe:
    """What `standard_configuration` makes a basis of.

    Attributes
    ----------
    functions : limits by "ALL", "UNARY", "BINARY", ... (number of elements of a block) or by a block's name ("Al Ni")
    radial : settings by "ALL" or by a pair's name ("Al Ni"), the same for both orders
    embedding : of every element
    """

    elements: tuple[str, ...]
    functions: Mapping[str, FunctionLimits]
    radial: Mapping[str, RadialSettings]
    embedding: Embedding = field(default_factory=Embedding)

    def limits(self, block: Sequence[str]) -> FunctionLimits | None:
        for key in (" ".join(block), _BY_COUNT.get(len(block), ""), "ALL"):
            if key in self.functions:
                return self.functions[key]
        return None

    def radial_settings(self, first: str, second: str) -> RadialSettings:
        for key in (f"{first} {second}", f"{second} {first}", "ALL"):
            if key in self.radial:
                return self.radial[key]
        raise ModelError(f"no radial settings for {first} {second}", 'give "ALL"')


def standard_configuration(recipe: BasisRecipe) -> Configuration:
    """Return the blocks of the standard basis, all coefficients zero, in pacemaker's order.

    Raises
    ------
    ModelError
        Limits are inconsistent or beyond the tables of invariants, or settings of a pair are missing.
    """
    elements = sorted(set(recipe.elements))
    if not elements:
        raise ModelError("no elements")
    names = [
        (centre, *others)
        for count in range(len(elements))
        for centre in elements
        for others in combinations([e for e in elements if e != centre], count)
    ]
    functions = {name: tuple(_block_functions(name, recipe)) for name in names}
    sizes = _pair_sizes(elements, functions)
    blocks = []
    for name in names:
        pair = (name[0], name[-1])
        if len(name) <= 2:
            bond = _bond(recipe.radial_settings(*pair), *sizes[pair])
            blocks.append(Block(name, functions[name], recipe.embedding if len(name) == 1 else None, bond))
        elif functions[name]:
            blocks.append(Block(name, functions[name]))
    return Configuration(blocks=tuple(blocks))


def _bond(settings: RadialSettings, nradbase: int, nradmax: int, lmax: int) -> Bond:
    coefficients = np.zeros((nradmax, lmax + 1, nradbase))
    for n in range(nradmax):
        coefficients[n, :, n] = 1.0
    return Bond(
        radbase=settings.radbase,
        nradbase=nradbase,
        radparameters=settings.radparameters,
        radcoefficients=coefficients,
        rcut=settings.rcut,
        dcut=settings.dcut,
        r_in=settings.r_in,
        delta_in=settings.delta_in,
        inner_cutoff_type=settings.inner_cutoff_type,
        prehc=settings.core_repulsion[0],
        lambdahc=settings.core_repulsion[1],
    )


def _pair_sizes(
    elements: Sequence[str], functions: Mapping[tuple[str, ...], Sequence[FunctionSpec]]
) -> dict[tuple[str, str], tuple[int, int, int]]:
    """Return (nradbase, nradmax, lmax) that the functions of a pair, in either order, need."""
    sizes = {(a, b): [0, 0, 0] for a in elements for b in elements}
    for block in functions.values():
        for function in block:
            centre = function.elements[0]
            for element, n, angular in zip(function.elements[1:], function.ns, function.ls, strict=True):
                for size in (sizes[centre, element], sizes[element, centre]):
                    size[0] = max(size[0], n)
                    if function.rank > 1:
                        size[1], size[2] = max(size[1], n), max(size[2], angular)
    return {pair: (size[0], size[1], size[2]) for pair, size in sizes.items()}


def _block_functions(block: tuple[str, ...], recipe: BasisRecipe) -> Iterator[FunctionSpec]:
    """Yield the functions whose centre and neighbours are exactly the elements of a block."""
    limits = recipe.limits(block)
    if limits is None:
        return
    zeros = (0.0,) * recipe.embedding.ndensity
    kinds = sorted(block)
    for rank, (nmax, lmax) in enumerate(zip(limits.nradmax_by_orders, limits.lmax_by_orders, strict=True), start=1):
        radial = [(element, n) for element in kinds for n in range(1, nmax + 1)]
        chosen = [
            slots
            for slots in combinations_with_replacement(radial, rank)
            if {element for element, _ in slots} | {block[0]} == set(block)
        ]
        chosen.sort(key=lambda slots: ([element for element, _ in slots], [n for _, n in slots]))
        for slots in chosen:
            pattern = tuple(slots.index(slot) for slot in slots)
            for ls, LS in invariants(pattern, lmax):
                names, ns = zip(*slots, strict=True)
                yield FunctionSpec((block[0], *names), ns, ls, LS, zeros)


@cache
def invariants(pattern: tuple[int, ...], lmax: int) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Return every (ls, LS) of a complete independent set.

    Parameters
    ----------
    pattern
        Per slot the first slot with the same radial function; equal ones may be exchanged.
    """
    rank = len(pattern)
    if rank == 1:
        return (((0,), ()),)
    found = []
    for ls in product(range(lmax + 1), repeat=rank):
        ordered = all(ls[t - 1] <= ls[t] for t in range(1, rank) if pattern[t - 1] == pattern[t])
        if ordered and sum(ls) % 2 == 0:
            found += [(ls, LS) for LS in _independent(pattern, ls)]
    return tuple(found)


@cache
def _independent(pattern: tuple[int, ...], ls: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Return, greedily in lexicographic order, the LS whose symmetrised couplings are linearly independent."""
    taken: list[tuple[int, ...]] = []
    directions: list[dict[tuple[tuple[int, int, int], ...], float]] = []
    for LS in product(range(sum(ls) + 1), repeat=max(0, len(ls) - 2)):
        if coupling_problem(ls, LS) is None:
            rest = _symmetrised(pattern, ls, LS)
            size = _dot(rest, rest)
            for direction in directions:
                overlap = _dot(rest, direction)
                for key, value in direction.items():
                    rest[key] = rest.get(key, 0.0) - overlap * value
            left = _dot(rest, rest)
            if left > 1e-10 * size and left > 1e-16:
                taken.append(LS)
                directions.append({key: value / np.sqrt(left) for key, value in rest.items()})
    return tuple(taken)


def _symmetrised(
    pattern: tuple[int, ...], ls: tuple[int, ...], LS: tuple[int, ...]
) -> dict[tuple[tuple[int, int, int], ...], float]:
    """Return the function as a polynomial: weights of products of A, whatever the order of their factors."""
    coupling = generalised_clebsch_gordan(ls, LS)
    polynomial: dict[tuple[tuple[int, int, int], ...], float] = {}
    for vector, weight in zip(coupling.ms.tolist(), coupling.weights.tolist(), strict=True):
        factors = tuple(sorted(zip(pattern, ls, vector, strict=True)))
        mirrored = tuple(sorted(zip(pattern, ls, (-m for m in vector), strict=True)))
        key = min(factors, mirrored)
        polynomial[key] = polynomial.get(key, 0.0) + weight
    return polynomial


def _dot(
    a: Mapping[tuple[tuple[int, int, int], ...], float], b: Mapping[tuple[tuple[int, int, int], ...], float]
) -> float:
    return sum(value * b.get(key, 0.0) for key, value in a.items())
