"""A potential as flat arrays for the reference evaluator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from mlip_autopipec.ace.core_repulsion import core_function
from mlip_autopipec.ace.embedding import embedding_arrays
from mlip_autopipec.ace.harmonics import recursion_coefficients
from mlip_autopipec.ace.radial import radial_basis, radial_functions
from mlip_autopipec.ace.records import INNER_CUTOFF_TYPES, FloatArray, IntArray
from mlip_autopipec.ace.splines import hermite_table, nodes
from mlip_autopipec.ace.terms import Potential, Slot, SpeciesTerms


class ReferenceTables(NamedTuple):
    """Tables of all pairs (p = mu_i * n_species + mu_j) and species.

    Columns of the splines: g_1..g_K, then R[l][n] (n fastest), then the core function.

    Attributes
    ----------
    sizes : (5,) n_species, K (radial basis), N (radial functions per l), lmax, largest ndensity
    pairs : (P, 4) rcut, bin width, r_in, delta_in, A
    spans : (P, 2) first node and number of bins
    values, slopes : (nodes, columns)
    legendre : (4, lmax + 2, lmax + 2), see `harmonics.recursion_coefficients`
    inner : index into INNER_CUTOFF_TYPES
    rank1_first, rank1 : per species, index mu * K + k of the rank-1 terms
    product_first, factor_first, factors : per species its products, per product its factors as index into A
    ctildes, ctilde_first : (terms, ndensity) of all species one after the other
    row_first, entry_first, entry_term, entry_weight : projections as sparse rows over the species' terms
    """

    sizes: IntArray
    pairs: FloatArray
    spans: IntArray
    values: FloatArray
    slopes: FloatArray
    legendre: FloatArray
    inner: int
    has_core: bool
    isolated: FloatArray
    embeddings: FloatArray
    embedding_shapes: FloatArray
    rank1_first: IntArray
    rank1: IntArray
    product_first: IntArray
    factor_first: IntArray
    factors: IntArray
    ctilde_first: IntArray
    ctildes: FloatArray
    row_first: IntArray
    entry_first: IntArray
    entry_term: IntArray
    entry_weight: FloatArray


def reference_tables(potential: Potential) -> ReferenceTables:
    """Tabulate the radial functions and flatten the terms."""
    bonds = [potential.bonds[key] for key in sorted(potential.bonds)]
    n_species = len(potential.elements)
    K, N = max(bond.nradbase for bond in bonds), max(bond.nradmax for bond in bonds)
    lmax = max(bond.lmax for bond in bonds)
    ndensity = max(embedding.ndensity for embedding in potential.embeddings)
    pairs, spans, values, slopes = _radial_tables(potential, K, N, lmax)
    parameters, shapes = embedding_arrays(potential.embeddings)
    return ReferenceTables(
        np.array([n_species, K, N, lmax, ndensity], dtype=np.int32),
        pairs,
        spans,
        values,
        slopes,
        np.array(recursion_coefficients(lmax)),
        INNER_CUTOFF_TYPES.index(bonds[0].inner_cutoff_type),
        any(bond.has_core for bond in bonds),
        potential.isolated_energies,
        parameters,
        shapes,
        **_flat_terms(potential.terms, K, N, lmax, ndensity),
    )


def _radial_tables(
    potential: Potential, K: int, N: int, lmax: int
) -> tuple[FloatArray, IntArray, FloatArray, FloatArray]:
    pairs, spans, values, slopes = [], [], [], []
    first = 0
    for (i, j), bond in sorted(potential.bonds.items()):
        r = nodes(bond.rcut, potential.spline_step)
        rows = [np.zeros((len(r), K + N * (lmax + 1) + 1)) for _ in range(2)]
        core = core_function(bond, r, (potential.elements[i], potential.elements[j]))
        for row, g, c in zip(rows, radial_basis(bond, r), core, strict=True):
            functions = np.zeros((len(r), lmax + 1, N))
            functions[:, : bond.lmax + 1, : bond.nradmax] = radial_functions(bond, g).transpose(0, 2, 1)
            row[:, : bond.nradbase] = g
            row[:, K:-1] = functions.reshape(len(r), -1)
            row[:, -1] = c
        table = hermite_table(r, rows[0], rows[1])
        pairs.append((bond.rcut, table.step, bond.r_in, bond.delta_in))
        spans.append((first, table.n_bins))
        first += len(table.values)
        values.append(table.values)
        slopes.append(table.slopes)
    return np.array(pairs), np.array(spans, dtype=np.int32), np.concatenate(values), np.concatenate(slopes)


def _flat_terms(terms: tuple[SpeciesTerms, ...], K: int, N: int, lmax: int, ndensity: int) -> dict[str, Any]:
    def factor(slot: Slot) -> int:
        mu, n, angular, m = slot
        return (mu * (lmax + 1) ** 2 + angular * (angular + 1) + m) * N + n - 1

    rank1 = [[mu * K + n - 1 for mu, n in species.rank1] for species in terms]
    products = [[[factor(slot) for slot in product] for product in species.products] for species in terms]
    ctildes = np.concatenate([np.pad(s.ctildes, ((0, 0), (0, ndensity - s.ctildes.shape[1]))) for s in terms])
    rows = [species.projections for species in terms]
    lengths = [np.diff(row.first) for row in rows if row is not None]
    return {
        "rank1_first": _first(len(species) for species in rank1),
        "rank1": _flat(rank1),
        "product_first": _first(len(species) for species in products),
        "factor_first": _first(len(product) for species in products for product in species),
        "factors": _flat([product for species in products for product in species]),
        "ctilde_first": _first(len(species.ctildes) for species in terms),
        "ctildes": ctildes,
        "row_first": _first(row.n_rows if row is not None else 0 for row in rows),
        "entry_first": _first(int(n) for length in lengths for n in length),
        "entry_term": np.concatenate([np.zeros(0, np.int32), *(row.columns for row in rows if row is not None)]),
        "entry_weight": np.concatenate([np.zeros(0), *(row.values for row in rows if row is not None)]),
    }


def _first(lengths: Iterable[int]) -> IntArray:
    return np.concatenate([[0], np.cumsum(list(lengths), dtype=np.int64)]).astype(np.int32)


def _flat(lists: list[list[int]]) -> IntArray:
    return np.array([value for values in lists for value in values], dtype=np.int32)
