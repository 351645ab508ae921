"""B-projections and extrapolation grade for the vectorised evaluator, as flat arrays.

Rank-1 projections are sums of all g_k(r), of which there are many and which the energy does not need one by one. Every
radial basis is a linear mix of t_0, t_1, ... with t_(k+1) = 2 x t_k - t_(k-1), where x, t_0 and t_1 are functions of r:
only these three are tabulated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mlip_autopipec.ace.lanes.program import Program, SpeciesGraph
from mlip_autopipec.ace.radial import radial_basis, recurrence_mix, recurrence_start
from mlip_autopipec.ace.records import Bond, FloatArray, LongArray
from mlip_autopipec.ace.splines import hermite_table, nodes
from mlip_autopipec.ace.terms import Potential, SpeciesTerms
from mlip_autopipec.core.compiled.aligned import aligned_zeros
from mlip_autopipec.core.compiled.vectors import WIDTH
from mlip_autopipec.core.errors import ModelError


class GradeTables(NamedTuple):
    """What is needed for projections and grade.

    Attributes
    ----------
    n_base, n_sums : largest nradbase; length of the recurrence
    top_functions : largest number of B-functions of a species
    start_at : (P,) place of a pair's first node in `start_table`
    start_table : Hermite nodes of x, t_0, t_1 and a zero: four values, four slopes
    mix : (P * n_base * n_sums,) g_k = sum_q mix[k, q] sum_j t_q
    exact_below, exact_above, exact_end : per pair the distances below and above which g itself is interpolated, and
        the cutoff: the evaluators of the formats interpolate the products with inner switches and steps, and jumps at
        the cutoff, which are so steep that products of our interpolations would differ in the sixth to tenth digit
    exact_at, exact_table : per pair the place of its rows, n_base values and n_base slopes each
    row_first, row_source, row_weight : per B-function of all species: entries (node, weight). Nodes from
        `first_sum` on are the sums of g, n_base per neighbour species.
    first_sum : number of the first of these
    first_function : (n_species + 1,) first row of each species
    inverse_at : (n_species,) place of a species' inverse in `inverse`, or -1
    inverse_size : (n_species,) its rows: n functions, or n densities * n functions
    inverse : per eight columns all rows, eight numbers each
    """

    n_base: int
    n_sums: int
    top_functions: int
    first_sum: int
    start_at: LongArray
    start_table: FloatArray
    mix: FloatArray
    exact_below: FloatArray
    exact_above: FloatArray
    exact_end: FloatArray
    exact_at: LongArray
    exact_table: FloatArray
    first_function: LongArray
    row_first: LongArray
    row_source: LongArray
    row_weight: FloatArray
    inverse_at: LongArray
    inverse_size: LongArray
    inverse: FloatArray


def make_grade_tables(
    potential: Potential,
    program: Program,
    graphs: tuple[SpeciesGraph, ...],
    active_set: Mapping[str, FloatArray] | None,
) -> GradeTables:
    """Make the tables; without a B-basis they are empty and must not be used."""
    if not potential.has_projections:
        return _empty(len(potential.elements))
    bonds = [bond for _, bond in sorted(potential.bonds.items())]
    n_base, n_sums = max(bond.nradbase for bond in bonds), max(bond.nradbase for bond in bonds) + 2
    starts, start_at, mix = [], [0], np.zeros((len(bonds), n_base, n_sums))
    for pair, bond in enumerate(bonds):
        r = nodes(bond.rcut, potential.spline_step)
        values, slopes = recurrence_start(bond, r)
        table = hermite_table(r, values, slopes)
        starts.append(np.concatenate([table.values, table.slopes], axis=1).ravel())
        start_at.append(start_at[-1] + starts[-1].size)
        part = recurrence_mix(bond)
        mix[pair, : part.shape[0], : part.shape[1]] = part
    exact_below, exact_above, exact_at, exact_table = _exact_tables(bonds, n_base, potential.spline_step)
    first_sum = program.top_nodes
    rows = [_species_rows(t, g, first_sum, n_base) for t, g in zip(potential.terms, graphs, strict=True)]
    flat = [row for species in rows for row in species]
    start_table = aligned_zeros(start_at[-1])
    start_table[:] = np.concatenate(starts)
    inverse_at, inverse_size, inverse = _inverses(potential, active_set)
    return GradeTables(
        n_base=n_base,
        n_sums=n_sums,
        top_functions=max(potential.n_functions),
        first_sum=first_sum,
        start_at=np.array(start_at[:-1], dtype=np.int64),
        start_table=start_table,
        mix=mix.ravel(),
        exact_below=exact_below,
        exact_above=exact_above,
        exact_end=np.array([bond.rcut for bond in bonds]),
        exact_at=exact_at,
        exact_table=exact_table,
        first_function=np.concatenate([[0], np.cumsum(potential.n_functions)]).astype(np.int64),
        row_first=np.concatenate([[0], np.cumsum([len(row) for row in flat])]).astype(np.int64),
        row_source=np.array([node for row in flat for node in row], dtype=np.int64),
        row_weight=np.array([weight for row in flat for weight in row.values()], dtype=float),
        inverse_at=inverse_at,
        inverse_size=inverse_size,
        inverse=inverse,
    )


def _empty(n_species: int) -> GradeTables:
    no_number, no_place = np.zeros(0), np.zeros(0, dtype=np.int64)
    zeros = np.zeros(n_species + 1, dtype=np.int64)
    return GradeTables(
        0,
        0,
        0,
        0,
        no_place,
        no_number,
        no_number,
        no_number,
        no_number,
        no_number,
        no_place,
        no_number,
        zeros,
        zeros,
        no_place,
        no_number,
        zeros - 1,
        zeros,
        no_number,
    )


def _exact_tables(bonds: list[Bond], n_base: int, width: float) -> tuple[FloatArray, FloatArray, LongArray, FloatArray]:
    """Return per pair the ends of the exact table and its place, and the tables."""
    below, above, places, tables = [], [], [0], []
    for bond in bonds:
        r = nodes(bond.rcut, width)
        step = float(r[0])
        # These kinds do not fall smoothly to zero with all their parts: the last bin joins them to zero.
        jumps = bond.radbase in ("ChebPow", "ChebLinear")
        above.append(bond.rcut - step if jumps else bond.rcut)
        below.append(_steep_below(bond, step))
        rows = np.zeros((0, 2, n_base))
        if jumps or below[-1] > 0.0:
            table = hermite_table(r, *radial_basis(bond, r))
            kept = len(table.values) if jumps else min(int(below[-1] / step) + 2, len(table.values))
            rows = np.zeros((kept, 2, n_base))
            rows[:, 0, : bond.nradbase], rows[:, 1, : bond.nradbase] = table.values[:kept], table.slopes[:kept]
        tables.append(rows.ravel())
        places.append(places[-1] + rows.size)
    return np.array(below), np.array(above), np.array(places[:-1], dtype=np.int64), np.concatenate(tables)


def _steep_below(bond: Bond, step: float) -> float:
    """Return where the inner switch or step of the radial functions is over, its bin included; 0 without one."""
    if bond.inner_cutoff_type == "distance":
        return min(bond.r_in, bond.rcut) if bond.r_in > 0.0 else 0.0
    end = bond.r_in - bond.delta_in if bond.inner_cutoff_type == "density" else float(bond.delta_in == 0.0)
    return min(end + step, bond.rcut) if end > 0.0 else 0.0


def _species_rows(terms: SpeciesTerms, graph: SpeciesGraph, first_sum: int, n_base: int) -> list[dict[int, float]]:
    """Return per B-function: node -> weight."""
    if terms.projections is None:
        return []
    result = []
    projections, n_rank1 = terms.projections, len(terms.rank1)
    for k in range(projections.n_rows):
        row: dict[int, float] = {}
        for e in range(projections.first[k], projections.first[k + 1]):
            term, weight = int(projections.columns[e]), float(projections.values[e])
            if term < n_rank1:
                mu, n = terms.rank1[term]
                node = first_sum + mu * n_base + n - 1
                row[node] = row.get(node, 0.0) + weight
                continue
            for monomial, value in graph.rows[term - n_rank1]:
                node = int(graph.graph.nodes[monomial])
                row[node] = row.get(node, 0.0) + weight * value
        result.append(row)
    return result


def _inverses(
    potential: Potential, active_set: Mapping[str, FloatArray] | None
) -> tuple[LongArray, LongArray, FloatArray]:
    """Return place, size and packed inverses of all species."""
    n_species = len(potential.elements)
    if active_set is None:
        return np.full(n_species, -1, dtype=np.int64), np.zeros(n_species, dtype=np.int64), np.zeros(0)
    check_active_set(potential, active_set)
    places, sizes, packed, position = [], [], [], 0
    for element in potential.elements:
        matrix = active_set[element]
        padded = np.pad(matrix, ((0, 0), (0, -matrix.shape[1] % WIDTH)))
        blocks = padded.reshape(len(matrix), -1, WIDTH).transpose(1, 0, 2).ravel()
        places.append(position)
        sizes.append(len(matrix))
        packed.append(blocks)
        position += blocks.size
    inverse = aligned_zeros(position)
    inverse[:] = np.concatenate(packed)
    return np.array(places, dtype=np.int64), np.array(sizes, dtype=np.int64), inverse


def check_active_set(potential: Potential, active_set: Mapping[str, FloatArray]) -> bool:
    """Return whether an active set is linear; `ModelError` if it does not belong to the potential."""
    if set(active_set) != set(potential.elements):
        raise ModelError(
            f"the active set has {', '.join(sorted(active_set))}, the potential {', '.join(potential.elements)}"
        )
    if not potential.has_projections:
        raise ModelError("gamma needs the B-basis", "load the .yaml file of the potential instead of the .yace")
    kinds = set()
    for element, count, embedding in zip(potential.elements, potential.n_functions, potential.embeddings, strict=True):
        size = len(active_set[element])
        if size not in (count, count * embedding.ndensity):
            raise ModelError(
                f"the active set of {element} has {size} functions, the potential {count}",
                "the files belong to different potentials",
            )
        kinds.add(size == count)
    if len(kinds) > 1:
        raise ModelError("the active set is linear for one element and non-linear for another")
    return kinds.pop()
