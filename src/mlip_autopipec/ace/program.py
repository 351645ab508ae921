"""A potential as the flat arrays that the vectorised evaluator runs through.

Three things are folded in: rank-1 functions become one radial function phi_p(r) = sum_k c_k^p g_k(r) per density; only
the R_nl in use are tabulated; products of A become a graph of real multiplications.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlip_autopipec.ace.core_repulsion import core_function
from mlip_autopipec.ace.embedding import embedding_arrays
from mlip_autopipec.ace.graph import ProductGraph, build_graph
from mlip_autopipec.ace.harmonics import recursion_coefficients
from mlip_autopipec.ace.lanes import aligned_zeros
from mlip_autopipec.ace.polynomial import Monomial, Variables, number_variables, real_part
from mlip_autopipec.ace.radial import radial_basis, radial_functions
from mlip_autopipec.ace.records import INNER_CUTOFF_TYPES, Bond, FloatArray, IntArray
from mlip_autopipec.ace.splines import hermite_table, nodes
from mlip_autopipec.ace.terms import Potential, SpeciesTerms

RCUT2, INVERSE_STEP, R_IN, DELTA_IN = range(4)
TABLE, N_BINS, COLUMNS, PHI, CORE, LMAX = range(6)
FIRST_COLUMN, GROUP_SIZE, FIRST_VARIABLE = range(3)
VARIABLES, FIRST_PRODUCT, LAST_PRODUCT, FIRST_OUTPUT, LAST_OUTPUT, N_DENSITIES = range(6)


class Program(NamedTuple):
    """Tables of pairs (p = mu_i * n_species + mu_j) and of central species.

    Attributes
    ----------
    sizes : (6,) n_species, largest lmax, most columns, most nodes, most densities, most variables
    pair_reals : (P, 4) columns RCUT2, INVERSE_STEP, R_IN, DELTA_IN
    pair_sizes : (P, 6) columns TABLE (place of the first node), N_BINS, COLUMNS (a multiple of 4; a node has twice as many
        numbers), PHI, CORE (column or -1), LMAX (-1 without angular functions)
    groups : (P, lmax + 1, 3) columns FIRST_COLUMN, GROUP_SIZE (number of n), FIRST_VARIABLE per l
    table : Hermite nodes; a row is, per chunk of 8 or 4 columns, values then slopes times bin width
    legendre : (4, lmax + 2, lmax + 2), see `harmonics.recursion_coefficients`
    inner : index into INNER_CUTOFF_TYPES
    species : (n_species, 6) columns VARIABLES, FIRST_PRODUCT, ..., N_DENSITIES
    factors : (products, 2) of all species one after the other
    output_nodes, output_weights : nodes that enter the densities, (outputs, ndensity)
    """

    sizes: IntArray
    pair_reals: FloatArray
    pair_sizes: IntArray
    groups: IntArray
    table: FloatArray
    legendre: FloatArray
    inner: int
    has_core: bool
    isolated: FloatArray
    embeddings: FloatArray
    embedding_shapes: FloatArray
    species: IntArray
    factors: IntArray
    output_nodes: IntArray
    output_weights: FloatArray


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
    """Tabulate, fold and flatten a potential; also return the graphs, which the extrapolation grade needs."""
    graphs = tuple(_species_graph(terms) for terms in potential.terms)
    n_species = len(potential.elements)
    ndensity = max(embedding.ndensity for embedding in potential.embeddings)
    lmax = max((key[1] for graph in graphs for key in graph.variables.groups), default=0)
    pair_reals, pair_sizes, groups, table = _pair_arrays(potential, graphs, lmax)
    species, factors, outputs, weights = _species_arrays(potential, graphs, ndensity)
    parameters, shapes = embedding_arrays(potential.embeddings)
    sizes = [n_species, lmax, int(pair_sizes[:, COLUMNS].max()), max(g.graph.n_nodes for g in graphs), ndensity]
    program = Program(
        sizes=np.array([*sizes, max(g.variables.count for g in graphs)], dtype=np.int32),
        pair_reals=pair_reals,
        pair_sizes=pair_sizes,
        groups=groups,
        table=table,
        legendre=np.array(recursion_coefficients(lmax)),
        inner=INNER_CUTOFF_TYPES.index(potential.bonds[0, 0].inner_cutoff_type),
        has_core=any(bond.prehc != 0.0 for bond in potential.bonds.values()),
        isolated=potential.isolated_energies,
        embeddings=parameters,
        embedding_shapes=shapes,
        species=species,
        factors=factors,
        output_nodes=outputs,
        output_weights=weights,
    )
    return program, graphs


def _species_graph(terms: SpeciesTerms) -> SpeciesGraph:
    variables = number_variables(terms.products)
    numbers: dict[Monomial, int] = {}
    rows = [
        [(numbers.setdefault(monomial, len(numbers)), value) for monomial, value in real_part(p, variables).items()]
        for p in terms.products
    ]
    return SpeciesGraph(variables, build_graph(list(numbers), variables.count), rows)


def _species_arrays(
    potential: Potential, graphs: tuple[SpeciesGraph, ...], ndensity: int
) -> tuple[IntArray, IntArray, IntArray, FloatArray]:
    species, outputs, weights = [], [], []
    products = first_output = 0
    for terms, graph, embedding in zip(potential.terms, graphs, potential.embeddings, strict=True):
        dense = np.zeros((graph.graph.n_nodes, ndensity))
        product_ctildes = terms.ctildes[len(terms.rank1) :]
        for row, ctilde in zip(graph.rows, product_ctildes, strict=True):
            for monomial, value in row:
                dense[graph.graph.nodes[monomial], : embedding.ndensity] += value * ctilde
        used = np.flatnonzero((dense != 0.0).any(axis=1))
        n_products = len(graph.graph.factors)
        last_output = first_output + len(used)
        species.append(
            (graph.variables.count, products, products + n_products, first_output, last_output, embedding.ndensity)
        )
        products, first_output = products + n_products, last_output
        outputs.append(used)
        weights.append(dense[used])
    factors = np.concatenate([graph.graph.factors for graph in graphs])
    return (
        np.array(species, dtype=np.int32),
        np.ascontiguousarray(factors),
        np.concatenate(outputs).astype(np.int32),
        np.concatenate(weights),
    )


def _pair_arrays(
    potential: Potential, graphs: tuple[SpeciesGraph, ...], lmax: int
) -> tuple[FloatArray, IntArray, IntArray, FloatArray]:
    n_species = len(potential.elements)
    reals, sizes, tables = [], [], []
    groups = np.zeros((n_species**2, lmax + 1, 3), dtype=np.int32)
    position = 0
    for pair, ((i, j), bond) in enumerate(sorted(potential.bonds.items())):
        columns = _group_columns(graphs[i].variables, j, groups[pair])
        r = nodes(bond.rcut, potential.spline_step)
        values, slopes, phi, core = _columns(potential, i, j, bond, r, columns)
        table = hermite_table(r, values, slopes)
        packed = _packed(table.values, table.slopes)
        lmax_pair = max((angular for _, angular in columns), default=-1)
        reals.append((bond.rcut**2, 1.0 / table.step, bond.r_in, bond.delta_in))
        sizes.append((position, table.n_bins, packed.shape[1] // 2, phi, core, lmax_pair))
        position += packed.size
        tables.append(packed.ravel())
    flat = aligned_zeros(position)
    flat[:] = np.concatenate(tables)
    return np.array(reals), np.array(sizes, dtype=np.int32), groups, flat


def _group_columns(variables: Variables, mu: int, groups: IntArray) -> list[tuple[int, int]]:
    """Fill `groups` (lmax + 1, 3) for neighbour species mu and return (n, l) of each column."""
    columns: list[tuple[int, int]] = []
    for (other, angular), ns in variables.groups.items():
        if other == mu:
            groups[angular] = len(columns), len(ns), variables.first[other, angular]
            columns += [(n, angular) for n in ns]
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
    if bond.prehc != 0.0:
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
    chunks = [x[:, a:b] for a, b in zip(edges[:-1], edges[1:], strict=True) for x in padded]
    return np.concatenate(chunks, axis=1) if chunks else np.zeros((len(values), 0))
