"""Second stage: radial functions of eight neighbours at once by cubic Hermite interpolation.

Functions that share a bin share its cache lines, so each neighbour is interpolated with lanes = functions and eight of
them are transposed to lanes = neighbours.
"""

from __future__ import annotations

from mlip_autopipec.ace.lanes.program import Program
from mlip_autopipec.ace.lanes.scratch import GEOMETRY_ROWS, SPLINE_NUMBERS, Scratch
from mlip_autopipec.ace.lanes.shuffles import columns_of_rows, transpose
from mlip_autopipec.ace.records import FloatArray, LongArray
from mlip_autopipec.core.compiled.jit import inline, splice
from mlip_autopipec.core.compiled.packing import whole_part
from mlip_autopipec.core.compiled.vectors import WIDTH, Lanes, load, load_row, store
from mlip_autopipec.core.compiled.views import shifted


@inline
def prepare_splines(t: Program, s: Scratch, pair: int, at: int, block: int, blocks: int) -> None:
    """Write bins and Hermite weights of the bond blocks of one neighbour species, which begin at `at`.

    Ahead of the interpolation, so that this need not wait block by block for the weights to come back from memory.
    """
    inverse_step, row = t.inverse_step[pair], 2 * t.columns[pair]
    for k in range(blocks):
        position = load(s.bonds, at + k * s.block + 4 * WIDTH) * inverse_step
        w = position - whole_part(position, s.bins, (block + k) * WIDTH)
        for lane in range((block + k) * WIDTH, (block + k + 1) * WIDTH):
            s.offsets[lane] = t.table_at[pair] + s.bins[lane] * row
        rest = 1.0 - w
        square = w * w
        out = (block + k) * SPLINE_NUMBERS
        store(s.spline, out, square * (3.0 - 2.0 * w))
        store(s.spline, out + WIDTH, w * rest * rest)
        store(s.spline, out + 2 * WIDTH, -square * rest)
        store(s.spline, out + 3 * WIDTH, 6.0 * inverse_step * w * rest)
        store(s.spline, out + 4 * WIDTH, inverse_step * rest * (1.0 - 3.0 * w))
        store(s.spline, out + 5 * WIDTH, inverse_step * w * (3.0 * w - 2.0))


@splice
def interpolate(t: Program, s: Scratch, pair: int, at: int, block: int) -> None:
    """Write the radial functions R and derivatives R' of the bond block at `at`, the centre's `block`-th."""
    columns = t.columns[pair]
    row = 2 * columns
    value_at = at + GEOMETRY_ROWS * WIDTH
    slope_at = value_at + columns * WIDTH
    offsets, weights = shifted(s.offsets, block * WIDTH), shifted(s.spline, block * SPLINE_NUMBERS)
    for column in range(0, columns - 4, 8):
        to_value, to_slope = value_at + column * WIDTH, slope_at + column * WIDTH
        _interpolate_eight(t.table, offsets, weights, 2 * column, row, s.bonds, to_value, to_slope)
    if columns % 8:
        column = columns - 4
        to_value, to_slope = value_at + column * WIDTH, slope_at + column * WIDTH
        _interpolate_four(t.table, offsets, weights, 2 * column, row, s.bonds, to_value, to_slope)


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
def _interpolate_eight(
    table: FloatArray,
    offsets: LongArray,
    weights: FloatArray,
    chunk: int,
    row: int,
    bonds: FloatArray,
    value_at: int,
    slope_at: int,
) -> None:
    v0, s0 = _eight(table, offsets[0] + chunk, row, shifted(weights, 0))
    v1, s1 = _eight(table, offsets[1] + chunk, row, shifted(weights, 1))
    v2, s2 = _eight(table, offsets[2] + chunk, row, shifted(weights, 2))
    v3, s3 = _eight(table, offsets[3] + chunk, row, shifted(weights, 3))
    v4, s4 = _eight(table, offsets[4] + chunk, row, shifted(weights, 4))
    v5, s5 = _eight(table, offsets[5] + chunk, row, shifted(weights, 5))
    v6, s6 = _eight(table, offsets[6] + chunk, row, shifted(weights, 6))
    v7, s7 = _eight(table, offsets[7] + chunk, row, shifted(weights, 7))
    values = transpose(v0, v1, v2, v3, v4, v5, v6, v7)
    slopes = transpose(s0, s1, s2, s3, s4, s5, s6, s7)
    for k in range(8):
        store(bonds, value_at + k * WIDTH, values[k])
    for k in range(8):
        store(bonds, slope_at + k * WIDTH, slopes[k])


@inline
def _interpolate_four(
    table: FloatArray,
    offsets: LongArray,
    weights: FloatArray,
    chunk: int,
    row: int,
    bonds: FloatArray,
    value_at: int,
    slope_at: int,
) -> None:
    v0, s0 = _four(table, offsets[0] + chunk, row, shifted(weights, 0))
    v1, s1 = _four(table, offsets[1] + chunk, row, shifted(weights, 1))
    v2, s2 = _four(table, offsets[2] + chunk, row, shifted(weights, 2))
    v3, s3 = _four(table, offsets[3] + chunk, row, shifted(weights, 3))
    v4, s4 = _four(table, offsets[4] + chunk, row, shifted(weights, 4))
    v5, s5 = _four(table, offsets[5] + chunk, row, shifted(weights, 5))
    v6, s6 = _four(table, offsets[6] + chunk, row, shifted(weights, 6))
    v7, s7 = _four(table, offsets[7] + chunk, row, shifted(weights, 7))
    values = columns_of_rows(v0, v1, v2, v3, v4, v5, v6, v7)
    slopes = columns_of_rows(s0, s1, s2, s3, s4, s5, s6, s7)
    for k in range(4):
        store(bonds, value_at + k * WIDTH, values[k])
    for k in range(4):
        store(bonds, slope_at + k * WIDTH, slopes[k])
