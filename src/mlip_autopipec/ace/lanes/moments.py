"""Third stage: A = sum over neighbours of R_nl Y_lm, and the rank-1 and core sums; lanes = neighbours."""

from __future__ import annotations

from mlip_autopipec.ace.lanes.harmonics import write_harmonics
from mlip_autopipec.ace.lanes.program import Program
from mlip_autopipec.ace.lanes.scratch import GEOMETRY_ROWS, Scratch
from mlip_autopipec.ace.lanes.shuffles import totals
from mlip_autopipec.ace.lanes.tiles import (
    MOST,
    sum_1_1,
    sum_1_2,
    sum_2_1,
    sum_2_2,
    sum_3_1,
    sum_3_2,
    sum_4_1,
    sum_4_2,
)
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.core.compiled.jit import inline, splice
from mlip_autopipec.core.compiled.vectors import WIDTH, load, spread, store


@inline
def clear_sums(t: Program, s: Scratch, mu: int, centre: int) -> None:
    """Set the sums of one centre to zero."""
    for variable in range(t.variables[mu]):
        store(s.sums, (variable * WIDTH + centre) * WIDTH, spread(0.0))
    for row in range(t.top_variables, t.top_variables + t.top_densities + 1):
        store(s.sums, (row * WIDTH + centre) * WIDTH, spread(0.0))


@splice
def sum_blocks(t: Program, s: Scratch, mu: int, pair: int, at: int, blocks: int, centre: int) -> None:
    """Add the bond blocks of one neighbour species to the sums of one centre."""
    lmax = t.lmax[pair]
    for block in range(blocks):
        write_harmonics(s.bonds, at + block * s.block, s.harmonics, block * s.harmonics_block, lmax)
    for angular in range(lmax + 1):
        _sum_group(t, s, pair, angular, at, blocks, centre)
    if t.phi[pair] >= 0:
        for p in range(t.n_densities[mu]):
            _sum_column(s, at, blocks, t.phi[pair] + p, t.top_variables + p, centre)
    if t.core[pair] >= 0:
        _sum_column(s, at, blocks, t.core[pair], t.top_variables + t.top_densities, centre)


@splice
def _sum_column(s: Scratch, at: int, blocks: int, column: int, row: int, centre: int) -> None:
    place = (row * WIDTH + centre) * WIDTH
    sum_ = load(s.sums, place)
    for block in range(blocks):
        sum_ += load(s.bonds, at + block * s.block + (GEOMETRY_ROWS + column) * WIDTH)
    store(s.sums, place, sum_)


@splice
def _sum_group(t: Program, s: Scratch, pair: int, angular: int, at: int, blocks: int, centre: int) -> None:
    """A[n][l][m] for all n and m >= 0 of one l."""
    group = pair * (t.top_l + 1) + angular
    size = t.group_size[group]
    column = at + (GEOMETRY_ROWS + t.group_column[group]) * WIDTH
    row = angular * angular * WIDTH
    out = (t.group_variable[group] * WIDTH + centre) * WIDTH
    next_n = (2 * angular + 1) * WIDTH * WIDTH
    for n in range(0, size, MOST):
        place, target = column + n * WIDTH, out + n * next_n
        # m = 0 alone, then Re and Im of each m: 2 l + 1 rows of Y, one after the other
        _sum_real(s, place, row, blocks, target, next_n, size - n)
        for m in range(1, angular + 1):
            part = 2 * m - 1
            _sum_complex(s, place, row + part * WIDTH, blocks, target + part * WIDTH * WIDTH, next_n, size - n)


@splice
def _sum_real(s: Scratch, R: int, Y: int, blocks: int, out: int, next_n: int, n: int) -> None:
    if n == 1:
        sum_1_1(s.bonds, R, s.block, s.harmonics, Y, s.harmonics_block, blocks, s.sums, out, next_n)
    elif n == 2:
        sum_2_1(s.bonds, R, s.block, s.harmonics, Y, s.harmonics_block, blocks, s.sums, out, next_n)
    elif n == 3:
        sum_3_1(s.bonds, R, s.block, s.harmonics, Y, s.harmonics_block, blocks, s.sums, out, next_n)
    else:
        sum_4_1(s.bonds, R, s.block, s.harmonics, Y, s.harmonics_block, blocks, s.sums, out, next_n)


@splice
def _sum_complex(s: Scratch, R: int, Y: int, blocks: int, out: int, next_n: int, n: int) -> None:
    if n == 1:
        sum_1_2(s.bonds, R, s.block, s.harmonics, Y, s.harmonics_block, blocks, s.sums, out, next_n)
    elif n == 2:
        sum_2_2(s.bonds, R, s.block, s.harmonics, Y, s.harmonics_block, blocks, s.sums, out, next_n)
    elif n == 3:
        sum_3_2(s.bonds, R, s.block, s.harmonics, Y, s.harmonics_block, blocks, s.sums, out, next_n)
    else:
        sum_4_2(s.bonds, R, s.block, s.harmonics, Y, s.harmonics_block, blocks, s.sums, out, next_n)


@inline
def fold_lanes(sums: FloatArray, row: int, out: FloatArray, place: int) -> None:
    """Add up the eight lanes of the eight centres in `row` of `sums`; the result has one lane per centre."""
    at = row * WIDTH * WIDTH
    folded = totals(
        load(sums, at),
        load(sums, at + WIDTH),
        load(sums, at + 2 * WIDTH),
        load(sums, at + 3 * WIDTH),
        load(sums, at + 4 * WIDTH),
        load(sums, at + 5 * WIDTH),
        load(sums, at + 6 * WIDTH),
        load(sums, at + 7 * WIDTH),
    )
    store(out, place * WIDTH, folded)
