"""First stage of the vectorised evaluator: the neighbours within the cutoff, by species, in blocks of eight."""

from __future__ import annotations

import numpy as np

from mlip_autopipec.ace.lanes.program import Program
from mlip_autopipec.ace.lanes.scratch import Scratch
from mlip_autopipec.ace.lanes.shuffles import columns_of_rows
from mlip_autopipec.ace.records import FloatArray, IntArray
from mlip_autopipec.core.compiled.jit import inline, splice
from mlip_autopipec.core.compiled.packing import (
    HAS_COMPRESS,
    count_bits,
    inverse_root,
    mask_inside,
    store_packed,
    store_packed_indices,
)
from mlip_autopipec.core.compiled.vectors import WIDTH, Lanes, load, load_row, maximum, spread, store
from mlip_autopipec.core.compiled.views import shifted


@splice
def gather(
    t: Program,
    s: Scratch,
    places: FloatArray,
    listed: IntArray,
    begin: int,
    end: int,
    i: int,
    mu: int,
    centre: int,
    dummy: int,
) -> int:
    """Fill the bond blocks of one centre; return the number of pairs closer than one spline bin.

    `places` (M + 1, 4) flat: x, y, z, species; row `dummy` lies far outside and stands for "no neighbour".
    """
    n_species = t.n_species
    for nu in range(n_species):
        s.blocks[centre * n_species + nu] = 0
    for first in range(begin, end, WIDTH):
        if first + WIDTH <= end:
            _sort_in(t, s, places, shifted(listed, first), i, mu, centre)
        else:
            for lane in range(WIDTH):
                s.bins[lane] = listed[first + lane] if first + lane < end else dummy
            _sort_in(t, s, places, s.bins, i, mu, centre)
    return _make_blocks(t, s, mu, centre, dummy)


@inline
def _sort_in(t: Program, s: Scratch, places: FloatArray, listed: IntArray, i: int, mu: int, centre: int) -> None:
    """Append eight listed neighbours to the streams of their species if they are inside."""
    n_species = t.n_species
    columns = columns_of_rows(
        load_row(places, 4 * listed[0]),
        load_row(places, 4 * listed[1]),
        load_row(places, 4 * listed[2]),
        load_row(places, 4 * listed[3]),
        load_row(places, 4 * listed[4]),
        load_row(places, 4 * listed[5]),
        load_row(places, 4 * listed[6]),
        load_row(places, 4 * listed[7]),
    )
    x = columns[0] - places[4 * i]
    y = columns[1] - places[4 * i + 1]
    z = columns[2] - places[4 * i + 2]
    square = x * x + y * y + z * z
    for nu in range(n_species):
        mask = mask_inside(square, t.rcut2[mu * n_species + nu], columns[3], float(nu))
        count = s.blocks[centre * n_species + nu]
        at = nu * s.capacity + count
        span = n_species * s.capacity
        if HAS_COMPRESS:
            store_packed(s.streams, at, x, mask)
            store_packed(s.streams, span + at, y, mask)
            store_packed(s.streams, 2 * span + at, z, mask)
            store_packed(s.streams, 3 * span + at, square, mask)
            store_packed_indices(s.stream_rows, at, listed, mask)
        else:
            _pack_by_lane(s, at, span, listed, mask, x, y, z, square)
        s.blocks[centre * n_species + nu] = count + count_bits(mask)


@inline
def _pack_by_lane(
    s: Scratch, at: int, span: int, listed: IntArray, mask: int, x: Lanes, y: Lanes, z: Lanes, square: Lanes
) -> None:
    """`store_packed` for machines without that instruction: write every lane, advance past those inside."""
    store(s.spline, 0, x)
    store(s.spline, WIDTH, y)
    store(s.spline, 2 * WIDTH, z)
    store(s.spline, 3 * WIDTH, square)
    for lane in range(WIDTH):
        s.streams[at] = s.spline[lane]
        s.streams[span + at] = s.spline[WIDTH + lane]
        s.streams[2 * span + at] = s.spline[2 * WIDTH + lane]
        s.streams[3 * span + at] = s.spline[3 * WIDTH + lane]
        s.stream_rows[at] = listed[lane]
        at += (mask >> lane) & 1


@inline
def _make_blocks(t: Program, s: Scratch, mu: int, centre: int, dummy: int) -> int:
    """Pad the streams to whole blocks and write unit vectors, 1/r and r."""
    n_species = t.n_species
    span = n_species * s.capacity
    at = centre * s.centre
    row_at = centre * s.centre_blocks * WIDTH
    too_close = 0
    for nu in range(n_species):
        pair = mu * n_species + nu
        count = s.blocks[centre * n_species + nu]
        # Beyond the cutoff, in the middle of the bin where every function is zero.
        aside = np.sqrt(t.rcut2[pair]) + 1.5 / t.inverse_step[pair]
        start = nu * s.capacity
        for k in range(count, count + WIDTH):
            s.streams[start + k] = aside
            s.streams[span + start + k] = 0.0
            s.streams[2 * span + start + k] = 0.0
            s.streams[3 * span + start + k] = aside * aside
            s.stream_rows[start + k] = dummy
        blocks = (count + WIDTH - 1) // WIDTH
        step2 = 1.0 / t.inverse_step[pair] ** 2
        for block in range(blocks):
            k = start + block * WIDTH
            square = load(s.streams, 3 * span + k)
            too_close += count_bits(mask_inside(square, step2, square * 0.0, 0.0))
            square = maximum(square, spread(step2))
            inverse = inverse_root(square)
            store(s.bonds, at, load(s.streams, k) * inverse)
            store(s.bonds, at + WIDTH, load(s.streams, span + k) * inverse)
            store(s.bonds, at + 2 * WIDTH, load(s.streams, 2 * span + k) * inverse)
            store(s.bonds, at + 3 * WIDTH, inverse)
            store(s.bonds, at + 4 * WIDTH, square * inverse)
            for lane in range(WIDTH):
                s.bond_rows[row_at + lane] = s.stream_rows[k + lane]
            at += s.block
            row_at += WIDTH
        s.blocks[centre * n_species + nu] = blocks
    return too_close
