"""A potential as the flat arrays that the vectorised evaluator runs through.

Three things are folded in: rank-1 functions become one radial function phi_p(r) = sum_k c_k^p g_k(r) per density; only
the R_nl in use are tabulated; products of A become a graph of real multiplications.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mlip_autopipec.ace.core_repulsion import core_function
from mlip_autopipec.ace.embedding import embedding_arrays
from mlip_autopipec.ace.lanes.graph import ProductGraph, build_graph
from mlip_autopipec.ace.lanes.harmonics import MOST_L
from mlip_autopipec.ace.lanes.polynomial import Monomial, Variables, number_variables, real_part
from mlip_autopipec.ace.radial import radial_basis, radial_functions
from mlip_autopipec.ace.records import INNER_CUTOFF_TYPES, Bond, FloatArray, LongArray
from mlip_autopipec.ace.splines import hermite_table, nodes
from mlip_autopipec.ace.terms import Potential, Slot
from mlip_autopipec.core.compiled.aligned import aligned_zeros
from mlip_autopipec.core.errors import ModelError


class Program(NamedTuple):
    """Flat arrays of pairs (p = mu_i * n_species + mu_j) and of central species; sizes are plain integers.

    Attributes
    ----------
    n_species, top_l, top_columns, top_nodes, top_densities, top_variables : largest values over pairs and species
    inner : index into INNER_CUTOFF_TYPES
    has_core : 1 if any pair has a core repulsion or switches ACE off
    rcut2, inverse_step, r_in, delta_in : (P,)
    table_at : (P,) place of a pair's first node in `table`
    columns : (P,) number of tabulated functions, padded to a multiple of 4; a node has twice as many numbers
    phi, core : (P,) column of phi_1 and of the core function, or -1
    lmax : (P,) largest l with functions, or -1
    group_column, group_size, group_variable : (P * (top_l + 1),) per l: first column, number of n, first variable
    table : Hermite nodes; a row is, per chunk of 8 or 4 columns, values then slopes times bin width
    variables, n_nodes, first_product, first_node, n_densities : (n_species,) a node is a variable or a product
    factors : (2 * products,) of all species one after the other
    weight_stride : top_densities, made even
    node_weights : (nodes * weight_stride,) what the densities are made of
    backwards : (3 * products,) product, factor, factor, in an order in which every product comes before its factors
    embedding_kind, rho_cut, drho_cut, isolated : (n_species,)
    embedding : (n_species * 2 * top_densities,) w, m of each density
    """

    n_species: int
    top_l: int
    top_columns: int
    top_nodes: int
    top_densities: int
    top_variables: int
    inner: int
    has_core: int
    rcut2: FloatArray
    inverse_step: FloatArray
    r_in: FloatArray
    delta_in: FloatArray
    table_at: LongArray
    columns: LongArray
    phi: LongArray
    core: LongArray
    lmax: LongArray
    group_column: LongArray
    group_size: LongArray
    group_variable: LongArray
    table: FloatArray
    variables: LongArray
    n_nodes: LongArray
    first_product: LongArray
    first_node: LongArray
    n_densities: LongArray
    weight_stride: int
    factors: LongArray
    node_weights: FloatArray
    backwards: LongArray
    embedding_kind: FloatArray
    rho_cut: FloatArray
    drho_cut: FloatArray
    isolated: FloatArray
    embedding: FloatArray


class SpeciesGraph(NamedTuple):
    """The terms of one central species as a graph.

    Attributes
    ----------
    monomials : (n_products of A, n_monomials) sparse: rows of (monomial, coefficient)
    """

    variables: Variables
    graph: ProductGraph
    rows: list[list[tuple[int, float]]]


def make_program(potential: Potential) -> tuple[Program, tuple[SpeciesGraph, ...]]:
    """Tabulate, fold and flatten a potential; also return the graphs, which the extrapolation grade needs.

    Raises
    ------
    ModelError
        An angular momentum is above `MOST_L`.
    """
    graphs = tuple(_species_graph(terms.products) for terms in potential.terms)
    top_l = max((key[1] for graph in graphs for key in graph.variables.groups), default=0)
    if top_l > MOST_L:
        raise ModelError(
            f"a function has l = {top_l}, and the vectorised evaluator goes up to {MOST_L}",
            "use path='reference', or engine: pyace",
        )
    pairs = _pair_arrays(potential, graphs, top_l)
    parameters, shapes = embedding_arrays(potential.embeddings)
    program = Program(
        n_species=len(potential.elements),
        top_l=top_l,
        top_columns=int(pairs["columns"].max()),
        top_nodes=max(graph.graph.n_nodes for graph in graphs),
        top_densities=max(embedding.ndensity for embedding in potential.embeddings),
        top_variables=max(graph.variables.count for graph in graphs),
        inner=INNER_CUTOFF_TYPES.index(potential.bonds[0, 0].inner_cutoff_type),
        has_core=int(any(bond.has_core for bond in potential.bonds.values())),
        embedding_kind=shapes[:, 0].copy(),
        rho_cut=shapes[:, 2].copy(),
        drho_cut=shapes[:, 3].copy(),
        isolated=potential.isolated_energies,
        embedding=parameters.ravel(),
        **pairs,
        **_species_arrays(potential, graphs),
    )
    return program, graphs


# All versions of a run have the same products; some elements, of `.yaml` and `.yace` each.
@lru_cache(maxsize=12)
def _species_graph(products: tuple[tuple[Slot, ...], ...]) -> SpeciesGraph:
    variables = number_variables(products)
    numbers: dict[Monomial, int] = {}
    rows = [
        [(numbers.setdefault(monomial, len(numbers)), value) for monomial, value in real_part(p, variables).items()]
        for p in products
    ]
    return SpeciesGraph(variables, build_graph(list(numbers), variables.count), rows)


def _species_arrays(potential: Potential, graphs: tuple[SpeciesGraph, ...]) -> dict[str, Any]:
    ndensity = max(embedding.ndensity for embedding in potential.embeddings)
    stride = ndensity + ndensity % 2
    weights, backwards = [], []
    for terms, graph, embedding in zip(potential.terms, graphs, potential.embeddings, strict=True):
        dense = np.zeros((graph.graph.n_nodes, stride))
        for row, ctilde in zip(graph.rows, terms.ctildes[len(terms.rank1) :], strict=True):
            for monomial, value in row:
                dense[graph.graph.nodes[monomial], : embedding.ndensity] += value * ctilde
        weights.append(dense.ravel())
        backwards.append(_backwards(graph.graph).ravel())
    product_counts = [len(graph.graph.factors) for graph in graphs]
    node_counts = [graph.graph.n_nodes for graph in graphs]
    return {
        "variables": _integers([graph.variables.count for graph in graphs]),
        "n_nodes": _integers(node_counts),
        "first_product": _integers(np.cumsum([0, *product_counts[:-1]])),
        "first_node": _integers(np.cumsum([0, *node_counts[:-1]])),
        "n_densities": _integers([embedding.ndensity for embedding in potential.embeddings]),
        "weight_stride": stride,
        "factors": _integers(np.concatenate([graph.graph.factors.ravel() for graph in graphs])),
        "node_weights": np.concatenate(weights),
        "backwards": _integers(np.concatenate(backwards)),
    }


def _backwards(graph: ProductGraph) -> LongArray:
    """Return (product, factor, factor), users before what they use.

    Products of one depth that share a factor stand apart: adding twice to one sum in a row waits for memory.
    """
    depth = np.zeros(graph.n_nodes, dtype=np.int64)
    for k in range(len(graph.factors) - 1, -1, -1):
        a, b = graph.factors[k]
        below = depth[graph.n_variables + k] + 1
        depth[a], depth[b] = max(depth[a], below), max(depth[b], below)
    order: list[int] = []
    products = np.arange(len(graph.factors))
    for level in np.unique(depth[graph.n_variables :]):
        members = products[depth[graph.n_variables :] == level]
        stride = next(
            s for s in range(max(1, int(0.382 * len(members))), len(members) + 1) if math.gcd(s, len(members)) == 1
        )
        order += members[np.arange(len(members)) * stride % len(members)].tolist()
    return np.column_stack([graph.n_variables + np.array(order, dtype=np.int64), graph.factors[order]]).astype(np.int64)


def _integers(values: Any) -> LongArray:
    return np.array(values, dtype=np.int64)


def _pair_arrays(potential: Potential, graphs: tuple[SpeciesGraph, ...], top_l: int) -> dict[str, Any]:
    names = ("rcut2", "inverse_step", "r_in", "delta_in", "table_at", "columns", "phi", "core", "lmax")
    arrays: dict[str, list[Any]] = {name: [] for name in names}
    tables, groups, position = [], np.zeros((3, len(potential.elements) ** 2, top_l + 1), dtype=np.int64), 0
    for pair, ((i, j), bond) in enumerate(sorted(potential.bonds.items())):
        columns = _group_columns(graphs[i].variables, j, bond.radcoefficients, groups[:, pair])
        r = nodes(bond.rcut, potential.spline_step)
        values, slopes, phi, core = _columns(potential, i, j, bond, r, columns)
        table = hermite_table(r, values, slopes)
        packed = _packed(table.values, table.slopes)
        lmax = max((angular for mu, angular in graphs[i].variables.groups if mu == j), default=-1)
        reals = (bond.rcut**2, 1.0 / table.step, bond.r_in, bond.delta_in)
        row = (*reals, position, packed.shape[1] // 2, phi, core, lmax)
        for name, value in zip(names, row, strict=True):
            arrays[name].append(value)
        position += packed.size
        tables.append(packed.ravel())
    flat = aligned_zeros(position)
    flat[:] = np.concatenate(tables)
    result: dict[str, Any] = {name: np.array(arrays[name], dtype=float) for name in names[:4]}
    result |= {name: np.array(arrays[name], dtype=np.int64) for name in names[4:]}
    group_arrays = zip(("group_column", "group_size", "group_variable"), groups, strict=True)
    return result | {"table": flat} | {name: _integers(array.ravel()) for name, array in group_arrays}


def _group_columns(
    variables: Variables, mu: int, radcoefficients: FloatArray, groups: LongArray
) -> list[tuple[int, int]]:
    """Fill `groups` (3, top_l + 1) for neighbour species mu and return (n, l) of each column."""
    columns: list[tuple[int, int]] = []
    known: dict[tuple[int, bytes], int] = {}
    for (other, angular), ns in variables.groups.items():
        if other == mu:
            # Groups of several l with equal radial functions (usual where these are not fitted) share columns.
            functions = (len(ns), radcoefficients[[n - 1 for n in ns], angular].tobytes())
            first = known.setdefault(functions, len(columns))
            if first == len(columns):
                columns += [(n, angular) for n in ns]
            groups[:, angular] = first, len(ns), variables.first[other, angular]
    return columns


def _columns(
    potential: Potential, i: int, j: int, bond: Bond, r: FloatArray, columns: list[tuple[int, int]]
) -> tuple[FloatArray, FloatArray, int, int]:
    """Return values and derivatives (nodes, columns) of R_nl, phi_p and core, and the columns of phi and core."""
    g, dg = radial_basis(bond, r)
    terms = potential.terms[i]
    folded = np.zeros((bond.nradbase, terms.ctildes.shape[1]))
    for (mu, n), ctilde in zip(terms.rank1, terms.ctildes, strict=False):
        if mu == j:
            folded[n - 1] += ctilde
    parts = [[radial_functions(bond, x)[:, n - 1, angular] for n, angular in columns] for x in (g, dg)]
    phi = core = -1
    if folded.any():
        phi = len(parts[0])
        for part, x in zip(parts, (g, dg), strict=True):
            part += list((x @ folded).T)
    if bond.has_core:
        core = len(parts[0])
        for part, x in zip(parts, core_function(bond, r, (potential.elements[i], potential.elements[j])), strict=True):
            part.append(x)
    values, slopes = (np.array(part).reshape(-1, len(r)).T for part in parts)
    return values, slopes, phi, core


def _packed(values: FloatArray, slopes: FloatArray) -> FloatArray:
    """Return rows of chunks [values | slopes]: eights, then a four where at most four columns remain."""
    n = values.shape[1]
    widths = [8] * (n // 8) + ([4] if 0 < n % 8 <= 4 else [8] if n % 8 else [])
    padded = [np.pad(x, ((0, 0), (0, sum(widths) - n))) for x in (values, slopes)]
    edges = np.cumsum([0, *widths])
    chunks = [x[:, a:b] for a, b in pairwise(edges) for x in padded]
    return np.concatenate(chunks, axis=1) if chunks else np.zeros((len(values), 0))
