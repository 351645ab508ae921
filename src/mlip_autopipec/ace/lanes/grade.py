"""Projections and extrapolation grade; lanes = neighbours while summing, centres afterwards."""

from __future__ import annotations

from mlip_autopipec.ace.grade_tables import GradeTables
from mlip_autopipec.ace.lanes.moments import fold_lanes
from mlip_autopipec.ace.lanes.program import Program
from mlip_autopipec.ace.lanes.scratch import SPLINE_NUMBERS, Scratch
from mlip_autopipec.ace.lanes.shuffles import columns_of_rows
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.core.compiled.jit import inline, splice
from mlip_autopipec.core.compiled.vectors import WIDTH, Lanes, load, load_row, magnitude, maximum, spread, store
from mlip_autopipec.core.compiled.views import shifted

STARTS = 3 * WIDTH
"""Numbers per block in `Scratch.starts`: 2 x, t_k, t_(k+1)."""


@inline
def _start(table: FloatArray, at: int, weights: FloatArray) -> Lanes:
    """Return x, t_0, t_1 of one neighbour, by its Hermite weights."""
    f0, f1 = load_row(table, at), load_row(table, at + 8)
    d0, d1 = load_row(table, at + 4), load_row(table, at + 12)
    return f0 + (f1 - f0) * weights[0] + d0 * weights[WIDTH] + d1 * weights[2 * WIDTH]


@inline
def start_recurrence(g: GradeTables, s: Scratch, pair: int, block: int, at: int, sums: int) -> None:
    """Write 2 x, t_0, t_1 of the bond block at `at`, the centre's `block`-th."""
    first, out = g.start_at[pair], shifted(s.starts, block * STARTS)
    bins, weights = shifted(s.bins, block * WIDTH), shifted(s.spline, block * SPLINE_NUMBERS)
    columns = columns_of_rows(
        _start(g.start_table, first + 8 * int(bins[0]), shifted(weights, 0)),
        _start(g.start_table, first + 8 * int(bins[1]), shifted(weights, 1)),
        _start(g.start_table, first + 8 * int(bins[2]), shifted(weights, 2)),
        _start(g.start_table, first + 8 * int(bins[3]), shifted(weights, 3)),
        _start(g.start_table, first + 8 * int(bins[4]), shifted(weights, 4)),
        _start(g.start_table, first + 8 * int(bins[5]), shifted(weights, 5)),
        _start(g.start_table, first + 8 * int(bins[6]), shifted(weights, 6)),
        _start(g.start_table, first + 8 * int(bins[7]), shifted(weights, 7)),
    )
    store(out, 0, columns[0] + columns[0])
    store(out, WIDTH, columns[1])
    store(out, 2 * WIDTH, columns[2])
    below, above, end = g.exact_below[pair], g.exact_above[pair], g.exact_end[pair]
    if below > 0.0 or above < end:
        for lane in range(WIDTH):
            r = s.bonds[at + 4 * WIDTH + lane]
            if r < below or above < r < end:
                _interpolate_exactly(g, s, pair, int(bins[lane]), shifted(weights, lane), sums)
                out[WIDTH + lane] = 0.0
                out[2 * WIDTH + lane] = 0.0


@inline
def _interpolate_exactly(g: GradeTables, s: Scratch, pair: int, bin_: int, weights: FloatArray, sums: int) -> None:
    """Add g_k of one neighbour inside of the inner cutoff to the sums that stand beside the recurrence."""
    v1, w0, w1 = weights[0], weights[WIDTH], weights[2 * WIDTH]
    row = g.exact_at[pair] + 2 * g.n_base * bin_
    for k in range(g.n_base):
        f0, d0 = g.exact_table[row + k], g.exact_table[row + g.n_base + k]
        f1, d1 = g.exact_table[row + 2 * g.n_base + k], g.exact_table[row + 3 * g.n_base + k]
        s.exact_sums[sums + k * WIDTH] += f0 + (f1 - f0) * v1 + d0 * w0 + d1 * w1


@inline
def sum_recurrence(t: Program, g: GradeTables, s: Scratch, centre: int) -> None:
    """Sum t_k over the neighbours of one centre, per neighbour species, eight k at a time."""
    starts = shifted(s.starts, 0)
    for nu in range(t.n_species):
        blocks = s.blocks[centre * t.n_species + nu]
        for k in range(0, g.n_sums, WIDTH):
            _sum_eight(starts, blocks, s.base_sums, ((nu * (g.n_sums + WIDTH) + k) * WIDTH + centre) * WIDTH)
        starts = shifted(starts, blocks * STARTS)


@inline
def _sum_eight(starts: FloatArray, blocks: int, sums: FloatArray, out: int) -> None:
    s0, s1, s2, s3 = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    s4, s5, s6, s7 = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    for block in range(blocks):
        at = block * STARTS
        x, a, b = load(starts, at), load(starts, at + WIDTH), load(starts, at + 2 * WIDTH)
        s0 += a
        s1 += b
        a = x * b - a
        s2 += a
        b = x * a - b
        s3 += b
        a = x * b - a
        s4 += a
        b = x * a - b
        s5 += b
        a = x * b - a
        s6 += a
        b = x * a - b
        s7 += b
        a = x * b - a
        store(starts, at + WIDTH, a)
        store(starts, at + 2 * WIDTH, x * a - b)
    row = WIDTH * WIDTH
    store(sums, out, s0)
    store(sums, out + row, s1)
    store(sums, out + 2 * row, s2)
    store(sums, out + 3 * row, s3)
    store(sums, out + 4 * row, s4)
    store(sums, out + 5 * row, s5)
    store(sums, out + 6 * row, s6)
    store(sums, out + 7 * row, s7)


@inline
def project(t: Program, g: GradeTables, s: Scratch, mu: int) -> None:
    """Write the B-projections of eight centres to `s.projections`."""
    for nu in range(t.n_species):
        for q in range(g.n_sums):
            fold_lanes(s.base_sums, nu * (g.n_sums + WIDTH) + q, s.folded, q)
        for k in range(g.n_base):
            mix = ((mu * t.n_species + nu) * g.n_base + k) * g.n_sums
            base = load(s.exact_sums, (nu * g.n_base + k) * WIDTH)
            for q in range(g.n_sums):
                base += load(s.folded, q * WIDTH) * g.mix[mix + q]
            store(s.nodes, (g.first_sum + nu * g.n_base + k) * WIDTH, base)
    first = g.first_function[mu]
    for k in range(g.first_function[mu + 1] - first):
        B = spread(0.0)
        for e in range(g.row_first[first + k], g.row_first[first + k + 1]):
            B += load(s.nodes, g.row_source[e] * WIDTH) * g.row_weight[e]
        store(s.projections, k * WIDTH, B)


@splice
def grade(t: Program, g: GradeTables, s: Scratch, mu: int) -> Lanes:
    """Return max_j |sum_k v_k inverse[k, j]| of eight centres."""
    size, count = g.inverse_size[mu], g.first_function[mu + 1] - g.first_function[mu]
    if size == count:
        for k in range(count):
            store(s.grade_vector, k * WIDTH, load(s.projections, k * WIDTH))
    else:
        for p in range(t.n_densities[mu]):
            dF = load(s.bare, p * WIDTH)
            for k in range(count):
                store(s.grade_vector, (p * count + k) * WIDTH, load(s.projections, k * WIDTH) * dF)
    largest = spread(0.0)
    for column in range(0, size, WIDTH):
        largest = maximum(largest, _eight_columns(g, s, g.inverse_at[mu] + column * size, size))
    return largest


@inline
def _eight_columns(g: GradeTables, s: Scratch, at: int, size: int) -> Lanes:
    a, b, c, d = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    e, f, h, i = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    for k in range(size):
        v = load(s.grade_vector, k * WIDTH)
        row = at + k * WIDTH
        a += v * g.inverse[row]
        b += v * g.inverse[row + 1]
        c += v * g.inverse[row + 2]
        d += v * g.inverse[row + 3]
        e += v * g.inverse[row + 4]
        f += v * g.inverse[row + 5]
        h += v * g.inverse[row + 6]
        i += v * g.inverse[row + 7]
    first = maximum(maximum(magnitude(a), magnitude(b)), maximum(magnitude(c), magnitude(d)))
    second = maximum(maximum(magnitude(e), magnitude(f)), maximum(magnitude(h), magnitude(i)))
    return maximum(first, second)
