"""Second stage: radial functions of eight neighbours at once by cubic Hermite interpolation.

Functions that share a bin share its cache lines, so each neighbour is interpolated with lanes = functions and eight of
them are transposed to lanes = neighbours.
"""

from __future__ import annotations

from mlip_autopipec.ace.jit import inline
from mlip_autopipec.ace.lanes import (
    WIDTH,
    Lanes,
    columns_of_rows,
    load,
    load_row,
    minimum,
    spread,
    store,
    transpose,
    whole_part,
)
from mlip_autopipec.ace.views import shifted
from mlip_autopipec.ace.program import Program
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.scratch import GEOMETRY_ROWS, Scratch


@inline
def interpolate(t: Program, s: Scratch, pair: int, at: int) -> None:
    """Write the radial functions R and derivatives R' of the bond block at `at`."""
    columns = t.columns[pair]
    row = 2 * columns
    _spline_weights(t, s, pair, load(s.bonds, at + 4 * WIDTH))
    for lane in range(WIDTH):
        s.offsets[lane] = t.table_at[pair] + s.bins[lane] * row
    value_at = at + GEOMETRY_ROWS * WIDTH
    slope_at = value_at + columns * WIDTH
    for column in range(0, columns - 4, 8):
        _interpolate_eight(t, s, 2 * column, row, value_at + column * WIDTH, slope_at + column * WIDTH)
    if columns % 8:
        column = columns - 4
        _interpolate_four(t, s, 2 * column, row, value_at + column * WIDTH, slope_at + column * WIDTH)


@inline
def _spline_weights(t: Program, s: Scratch, pair: int, r: Lanes) -> None:
    """Store bins, and the weights of f1 - f0, d0, d1 in value and derivative."""
    inverse_step = t.inverse_step[pair]
    position = r * inverse_step
    # A neighbour at the cutoff (padding) belongs to the end of the last bin, where everything is zero.
    w = position - whole_part(minimum(position, spread(t.n_bins[pair] - 0.5)), s.bins, 0)
    rest = 1.0 - w
    square = w * w
    store(s.spline, 0, square * (3.0 - 2.0 * w))
    store(s.spline, WIDTH, w * rest * rest)
    store(s.spline, 2 * WIDTH, -square * rest)
    store(s.spline, 3 * WIDTH, 6.0 * inverse_step * w * rest)
    store(s.spline, 4 * WIDTH, inverse_step * rest * (1.0 - 3.0 * w))
    store(s.spline, 5 * WIDTH, inverse_step * w * (3.0 * w - 2.0))


@inline
def _hermite(weights: FloatArray, f0: Lanes, f1: Lanes, d0: Lanes, d1: Lanes) -> tuple[Lanes, Lanes]:
    """Return value and derivative of one neighbour's functions in their bin."""
    rise = f1 - f0
    value = f0 + rise * weights[0] + d0 * weights[WIDTH] + d1 * weights[2 * WIDTH]
    slope = rise * weights[3 * WIDTH] + d0 * weights[4 * WIDTH] + d1 * weights[5 * WIDTH]
    return value, slope


@inline
def _eight(table: FloatArray, at: int, row: int, weights: FloatArray) -> tuple[Lanes, Lanes]:
    return _hermite(weights, load(table, at), load(table, at + row), load(table, at + 8), load(table, at + row + 8))


@inline
def _four(table: FloatArray, at: int, row: int, weights: FloatArray) -> tuple[Lanes, Lanes]:
    f0, f1 = load_row(table, at), load_row(table, at + row)
    return _hermite(weights, f0, f1, load_row(table, at + 4), load_row(table, at + row + 4))


@inline
def _interpolate_eight(t: Program, s: Scratch, chunk: int, row: int, value_at: int, slope_at: int) -> None:
    v0, s0 = _eight(t.table, s.offsets[0] + chunk, row, shifted(s.spline, 0))
    v1, s1 = _eight(t.table, s.offsets[1] + chunk, row, shifted(s.spline, 1))
    v2, s2 = _eight(t.table, s.offsets[2] + chunk, row, shifted(s.spline, 2))
    v3, s3 = _eight(t.table, s.offsets[3] + chunk, row, shifted(s.spline, 3))
    v4, s4 = _eight(t.table, s.offsets[4] + chunk, row, shifted(s.spline, 4))
    v5, s5 = _eight(t.table, s.offsets[5] + chunk, row, shifted(s.spline, 5))
    v6, s6 = _eight(t.table, s.offsets[6] + chunk, row, shifted(s.spline, 6))
    v7, s7 = _eight(t.table, s.offsets[7] + chunk, row, shifted(s.spline, 7))
    values = transpose(v0, v1, v2, v3, v4, v5, v6, v7)
    slopes = transpose(s0, s1, s2, s3, s4, s5, s6, s7)
    for k in range(8):
        store(s.bonds, value_at + k * WIDTH, values[k])
    for k in range(8):
        store(s.bonds, slope_at + k * WIDTH, slopes[k])


@inline
def _interpolate_four(t: Program, s: Scratch, chunk: int, row: int, value_at: int, slope_at: int) -> None:
    v0, s0 = _four(t.table, s.offsets[0] + chunk, row, shifted(s.spline, 0))
    v1, s1 = _four(t.table, s.offsets[1] + chunk, row, shifted(s.spline, 1))
    v2, s2 = _four(t.table, s.offsets[2] + chunk, row, shifted(s.spline, 2))
    v3, s3 = _four(t.table, s.offsets[3] + chunk, row, shifted(s.spline, 3))
    v4, s4 = _four(t.table, s.offsets[4] + chunk, row, shifted(s.spline, 4))
    v5, s5 = _four(t.table, s.offsets[5] + chunk, row, shifted(s.spline, 5))
    v6, s6 = _four(t.table, s.offsets[6] + chunk, row, shifted(s.spline, 6))
    v7, s7 = _four(t.table, s.offsets[7] + chunk, row, shifted(s.spline, 7))
    values = columns_of_rows(v0, v1, v2, v3, v4, v5, v6, v7)
    slopes = columns_of_rows(s0, s1, s2, s3, s4, s5, s6, s7)
    for k in range(4):
        store(s.bonds, value_at + k * WIDTH, values[k])
    for k in range(4):
        store(s.bonds, slope_at + k * WIDTH, slopes[k])
