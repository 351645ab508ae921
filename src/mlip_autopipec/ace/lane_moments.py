"""Third stage: A = sum over neighbours of R_nl Y_lm, and the rank-1 and core sums; lanes = neighbours."""

from __future__ import annotations

from mlip_autopipec.ace.jit import inline
from mlip_autopipec.ace.lanes import WIDTH, Lanes, load, spread, store, transpose
from mlip_autopipec.ace.program import Program
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.scratch import GEOMETRY_ROWS, Scratch


@inline
def write_legendre(t: Program, s: Scratch, z: Lanes, lmax: int) -> None:
    """Write Q_lm(z), m <= l <= lmax, to row l (lmax + 2) + m of `s.legendre`."""
    size = t.top_l + 2
    for m in range(lmax + 1):
        last = spread(0.0)
        q = spread(t.q_start[m * size + m])
        store(s.legendre, (m * size + m) * WIDTH, q)
        for angular in range(m + 1, lmax + 1):
            q, last = z * q * t.q_a[angular * size + m] - last * t.q_b[angular * size + m], q
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
    z, size = load(s.bonds, at + 2 * WIDTH), t.top_l + 2
    for m in range(lmax + 1):
        re, im = load(s.powers, 2 * m * WIDTH), load(s.powers, (2 * m + 1) * WIDTH)
        last = spread(0.0)
        q = spread(t.q_start[m * size + m])
        for angular in range(m, lmax + 1):
            if angular > m:
                q, last = z * q * t.q_a[angular * size + m] - last * t.q_b[angular * size + m], q
            row = out + angular * angular * WIDTH
            if m == 0:
                store(s.harmonics, row, q)
            else:
                store(s.harmonics, row + (2 * m - 1) * WIDTH, q * re)
                store(s.harmonics, row + 2 * m * WIDTH, q * im)


@inline
def sum_neighbours(t: Program, s: Scratch, mu: int, centre: int) -> None:
    """Fill `s.sums` of one centre from its bond blocks."""
    n_species = t.n_species
    phi_row, core_row = t.top_variables, t.top_variables + t.top_densities
    for variable in range(t.variables[mu]):
        store(s.sums, (variable * WIDTH + centre) * WIDTH, spread(0.0))
    for row in range(phi_row, core_row + 1):
        store(s.sums, (row * WIDTH + centre) * WIDTH, spread(0.0))
    at = centre * s.centre
    for nu in range(n_species):
        pair = mu * n_species + nu
        blocks = s.blocks[centre * n_species + nu]
        lmax = t.lmax[pair]
        if blocks and lmax >= 0:
            for block in range(blocks):
                write_harmonics(t, s, at + block * s.block, block * s.harmonics_block, lmax)
            for angular in range(lmax + 1):
                _sum_group(t, s, pair, angular, at, blocks, centre)
        if t.phi[pair] >= 0:
            for p in range(t.n_densities[mu]):
                _sum_column(s, at, blocks, t.phi[pair] + p, phi_row + p, centre)
        if t.core[pair] >= 0:
            _sum_column(s, at, blocks, t.core[pair], core_row, centre)
        at += blocks * s.block


@inline
def _sum_column(s: Scratch, at: int, blocks: int, column: int, row: int, centre: int) -> None:
    place = (row * WIDTH + centre) * WIDTH
    sum_ = load(s.sums, place)
    for block in range(blocks):
        sum_ += load(s.bonds, at + block * s.block + (GEOMETRY_ROWS + column) * WIDTH)
    store(s.sums, place, sum_)


@inline
def _sum_group(t: Program, s: Scratch, pair: int, angular: int, at: int, blocks: int, centre: int) -> None:
    """A[n][l][m] for all n and m >= 0 of one l."""
    group = pair * (t.top_l + 1) + angular
    size = t.group_size[group]
    column = at + (GEOMETRY_ROWS + t.group_column[group]) * WIDTH
    row = angular * angular * WIDTH
    out = (t.group_variable[group] * WIDTH + centre) * WIDTH
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
        Y = load(s.harmonics, row + block * s.harmonics_block)
        k = column + block * s.block
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
        Y = load(s.harmonics, row + block * s.harmonics_block)
        k = column + block * s.block
        a += load(s.bonds, k) * Y
        b += load(s.bonds, k + WIDTH) * Y
    store(s.sums, out, a)
    store(s.sums, out + WIDTH * WIDTH, b)


@inline
def _sum_one(s: Scratch, column: int, row: int, blocks: int, out: int) -> None:
    a = spread(0.0)
    for block in range(blocks):
        a += load(s.bonds, column + block * s.block) * load(s.harmonics, row + block * s.harmonics_block)
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
