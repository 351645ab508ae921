"""The B-basis: coupled functions per central species in the order of projections, active sets and coefficients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mlip_autopipec.ace.coupling import compress, generalised_clebsch_gordan
from mlip_autopipec.ace.records import Block, Bond, Configuration, Embedding, FloatArray, FunctionSpec, IntArray


@dataclass(frozen=True, eq=False)
class CoupledFunction:
    """One B-function: B = sum over m-vectors of weight * Re prod_t A[mu_t][n_t][l_t][m_t]; rank 1: B = A1[mu][n].

    Attributes
    ----------
    mus, ns, ls : (rank,) after compression
    LS : intermediate angular momenta of the coupling as generated
    ms, weights : (n_ms, rank), (n_ms,)
    coefficients : (ndensity,)
    place : (block, function) in the configuration
    """

    mus: tuple[int, ...]
    ns: tuple[int, ...]
    ls: tuple[int, ...]
    LS: tuple[int, ...]
    ms: IntArray
    weights: FloatArray
    coefficients: tuple[float, ...]
    place: tuple[int, int]

    @property
    def rank(self) -> int:
        return len(self.ns)


@dataclass(frozen=True, eq=False)
class Basis:
    """A configuration made ready for evaluation.

    Attributes
    ----------
    embeddings, functions : per central species; functions in projection order
    bonds : (mu_i, mu_j) -> Bond, all ordered pairs
    """

    configuration: Configuration
    elements: tuple[str, ...]
    embeddings: tuple[Embedding, ...]
    bonds: Mapping[tuple[int, int], Bond]
    functions: tuple[tuple[CoupledFunction, ...], ...]

    @property
    def cutoff(self) -> float:
        """Largest cutoff, A."""
        return max(bond.rcut for bond in self.bonds.values())

    def with_coefficients(self, coefficients: FloatArray) -> Configuration:
        """Return the configuration with new coefficients, given per species, projection order, density fastest."""
        blocks: dict[int, list[FunctionSpec]] = {
            index: list(block.functions) for index, block in enumerate(self.configuration.blocks)
        }
        position = 0
        for mu, functions in enumerate(self.functions):
            ndensity = self.embeddings[mu].ndensity
            for function in functions:
                block, index = function.place
                values = tuple(float(c) for c in coefficients[position : position + ndensity])
                blocks[block][index] = replace(blocks[block][index], coefficients=values)
                position += ndensity
        if position != len(coefficients):
            raise ValueError(f"expected {position} coefficients, found {len(coefficients)}")
        new = tuple(replace(old, functions=tuple(blocks[i])) for i, old in enumerate(self.configuration.blocks))
        return replace(self.configuration, blocks=new)


def make_basis(configuration: Configuration) -> Basis:
    """Couple, compress and sort the functions of a configuration."""
    elements = configuration.elements
    index = {element: mu for mu, element in enumerate(elements)}
    embeddings: dict[int, Embedding] = {}
    bonds: dict[tuple[int, int], Bond] = {}
    unsorted: list[list[tuple[tuple[object, ...], CoupledFunction]]] = [[] for _ in elements]
    for number, block in enumerate(configuration.blocks):
        mu0 = index[block.elements[0]]
        if block.embedding:
            embeddings[mu0] = block.embedding
        if block.bond:
            bonds[mu0, index[block.elements[-1]]] = block.bond
        unsorted[mu0] += _block_functions(block, number, index)
    for first in range(len(elements)):
        for second in range(len(elements)):
            if (first, second) not in bonds:
                bonds[first, second] = bonds[second, first]
    return Basis(
        configuration=configuration,
        elements=elements,
        embeddings=tuple(embeddings[mu] for mu in range(len(elements))),
        bonds=bonds,
        functions=tuple(tuple(function for _, function in sorted(entries, key=_key)) for entries in unsorted),
    )


def _key(entry: tuple[tuple[object, ...], CoupledFunction]) -> tuple[object, ...]:
    return entry[0]


def _block_functions(
    block: Block, number: int, index: Mapping[str, int]
) -> list[tuple[tuple[object, ...], CoupledFunction]]:
    """Return (sort key, function); the key is taken before compression."""
    result: list[tuple[tuple[object, ...], CoupledFunction]] = []
    for place, spec in enumerate(block.functions):
        if spec.skip:
            continue
        mus = tuple(index[element] for element in spec.elements[1:])
        coupling = generalised_clebsch_gordan(spec.ls, spec.LS)
        key = (spec.rank, mus, spec.ns, spec.ls, len(coupling.ms), tuple(coupling.ms.ravel().tolist()))
        slotted = compress(mus, spec.ns, spec.ls, coupling)
        function = CoupledFunction(
            mus=tuple(mus[t] for t in slotted.order),
            ns=tuple(spec.ns[t] for t in slotted.order),
            ls=tuple(spec.ls[t] for t in slotted.order),
            LS=spec.LS,
            ms=slotted.ms,
            weights=slotted.weights,
            coefficients=spec.coefficients,
            place=(number, place),
        )
        result.append((key, function))
    return result
