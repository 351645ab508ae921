"""Third stage: A = sum over neighbours of R_nl Y_lm, and the rank-1 and core sums; lanes = neighbours."""

from __future__ import annotations

from mlip_autopipec.ace.jit import inline
from mlip_autopipec.ace.lanes import WIDTH, Lanes, load, spread, store, transpose
from mlip_autopipec.ace.program import (
    CORE,
    FIRST_COLUMN,
    FIRST_VARIABLE,
    GROUP_SIZE,
    LMAX,
    N_DENSITIES,
    PHI,
    VARIABLES,
    Program,
)
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.scratch import GEOMETRY_ROWS, Scratch


@inline
def write_legendre(t: Program, s: Scratch, z: Lanes, lmax: int) -> None:
    """Write Q_lm(z), m <= l <= lmax, to row l (lmax + 2) + m of `s.legendre`."""
    size = t.sizes[1] + 2
    for m in range(lmax + 1):
        last = spread(0.0)
        q = spread(t.legendre[3, m, m])
        store(s.legendre, (m * size + m) * WIDTH, q)
        for angular in range(m + 1, lmax + 1):
            q, last = z * q * t.legendre[0, angular, m] - last * t.legendre[1, angular, m], q
            store(s.legendre, (angular * size + m) * WIDTH, q)


@inline
def write_powers(s: Scratch, x: Lanes, y: Lanes, lmax: int) -> None:
    """Write Re and Im of (x + i y)^m, m <= lmax, to rows 2 m and 2 m + 1 of `s.powers`."""
    re, im = spread(1.0), spread(0.0)
    for m in range(lmax + 1):
        store(s.powers, 2 * m * WIDTH, re)
        store(s.powers, (2 * m + 1) * WIDTH, im)
        re, im = re * x - im * y, re * y + im * x


@inline
def write_harmonics(t: Program, s: Scratch, at: int, out: int, lmax: int) -> None:
    """Write Y_lm of the bond block at `at`: row l^2 for m = 0, rows l^2 + 2 m - 1 and l^2 + 2 m for Re and Im."""
    write_powers(s, load(s.bonds, at), load(s.bonds, at + WIDTH), lmax)
    z = load(s.bonds, at + 2 * WIDTH)
    for m in range(lmax + 1):
        re, im = load(s.powers, 2 * m * WIDTH), load(s.powers, (2 * m + 1) * WIDTH)
        last = spread(0.0)
        q = spread(t.legendre[3, m, m])
        for angular in range(m, lmax + 1):
            if angular > m:
                q, last = z * q * t.legendre[0, angular, m] - last * t.legendre[1, angular, m], q
            row = out + angular * angular * WIDTH
            if m == 0:
                store(s.harmonics, row, q)
            else:
                store(s.harmonics, row + (2 * m - 1) * WIDTH, q * re)
                store(s.harmonics, row + 2 * m * WIDTH, q * im)


@inline
def sum_neighbours(t: Program, s: Scratch, mu: int, centre: int) -> None:
    """Fill `s.sums` of one centre from its bond blocks."""
    n_species = t.sizes[0]
    phi_row, core_row = s.strides[4], s.strides[4] + t.sizes[4]
    for variable in range(t.species[mu, VARIABLES]):
        store(s.sums, (variable * WIDTH + centre) * WIDTH, spread(0.0))
    for row in range(phi_row, core_row + 1):
        store(s.sums, (row * WIDTH + centre) * WIDTH, spread(0.0))
    at = centre * s.strides[2]
    for nu in range(n_species):
        pair = mu * n_species + nu
        blocks = s.blocks[centre * n_species + nu]
        lmax = t.pair_sizes[pair, LMAX]
        if blocks and lmax >= 0:
            for block in range(blocks):
                write_harmonics(t, s, at + block * s.strides[1], block * s.strides[3], lmax)
            for angular in range(lmax + 1):
                _sum_group(t, s, pair, angular, at, blocks, centre)
        if t.pair_sizes[pair, PHI] >= 0:
            for p in range(t.species[mu, N_DENSITIES]):
                _sum_column(s, at, blocks, t.pair_sizes[pair, PHI] + p, phi_row + p, centre)
        if t.pair_sizes[pair, CORE] >= 0:
            _sum_column(s, at, blocks, t.pair_sizes[pair, CORE], core_row, centre)
        at += blocks * s.strides[1]


@inline
def _sum_column(s: Scratch, at: int, blocks: int, column: int, row: int, centre: int) -> None:
    place = (row * WIDTH + centre) * WIDTH
    sum_ = load(s.sums, place)
    for block in range(blocks):
        sum_ += load(s.bonds, at + block * s.strides[1] + (GEOMETRY_ROWS + column) * WIDTH)
    store(s.sums, place, sum_)


@inline
def _sum_group(t: Program, s: Scratch, pair: int, angular: int, at: int, blocks: int, centre: int) -> None:
    """A[n][l][m] for all n and m >= 0 of one l."""
    size = t.groups[pair, angular, GROUP_SIZE]
    column = at + (GEOMETRY_ROWS + t.groups[pair, angular, FIRST_COLUMN]) * WIDTH
    row = angular * angular * WIDTH
    out = (t.groups[pair, angular, FIRST_VARIABLE] * WIDTH + centre) * WIDTH
    n = 0
    while n < size:
        step = 4 if size - n >= 4 else 2 if size - n >= 2 else 1
        place, first = column + n * WIDTH, out + n * WIDTH * WIDTH
        # m = 0, then Re and Im of each m: 2 l + 1 rows of Y, one after the other
        for part in range(2 * angular + 1):
            target = first + part * size * WIDTH * WIDTH
            if step == 4:
                _sum_four(s, place, row + part * WIDTH, blocks, target)
            elif step == 2:
                _sum_two(s, place, row + part * WIDTH, blocks, target)
            else:
                _sum_one(s, place, row + part * WIDTH, blocks, target)
        n += step


@inline
def _sum_four(s: Scratch, column: int, row: int, blocks: int, out: int) -> None:
    a, b, c, d = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    for block in range(blocks):
        Y = load(s.harmonics, row + block * s.strides[3])
        k = column + block * s.strides[1]
        a += load(s.bonds, k) * Y
        b += load(s.bonds, k + WIDTH) * Y
        c += load(s.bonds, k + 2 * WIDTH) * Y
        d += load(s.bonds, k + 3 * WIDTH) * Y
    store(s.sums, out, a)
    store(s.sums, out + WIDTH * WIDTH, b)
    store(s.sums, out + 2 * WIDTH * WIDTH, c)
    store(s.sums, out + 3 * WIDTH * WIDTH, d)


@inline
def _sum_two(s: Scratch, column: int, row: int, blocks: int, out: int) -> None:
    a, b = spread(0.0), spread(0.0)
    for block in range(blocks):
        Y = load(s.harmonics, row + block * s.strides[3])
        k = column + block * s.strides[1]
        a += load(s.bonds, k) * Y
        b += load(s.bonds, k + WIDTH) * Y
    store(s.sums, out, a)
    store(s.sums, out + WIDTH * WIDTH, b)


@inline
def _sum_one(s: Scratch, column: int, row: int, blocks: int, out: int) -> None:
    a = spread(0.0)
    for block in range(blocks):
        a += load(s.bonds, column + block * s.strides[1]) * load(s.harmonics, row + block * s.strides[3])
    store(s.sums, out, a)


@inline
def fold_lanes(sums: FloatArray, row: int, out: FloatArray, place: int) -> None:
    """Add up the eight lanes of the eight centres in `row` of `sums`; the result has one lane per centre."""
    at = row * WIDTH * WIDTH
    columns = transpose(
        load(sums, at),
        load(sums, at + WIDTH),
        load(sums, at + 2 * WIDTH),
        load(sums, at + 3 * WIDTH),
        load(sums, at + 4 * WIDTH),
        load(sums, at + 5 * WIDTH),
        load(sums, at + 6 * WIDTH),
        load(sums, at + 7 * WIDTH),
    )
    low = (columns[0] + columns[1]) + (columns[2] + columns[3])
    high = (columns[4] + columns[5]) + (columns[6] + columns[7])
    store(out, place * WIDTH, low + high)
