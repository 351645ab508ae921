"""From atoms to power spectra: neighbours, harmonics and radial functions, their products summed, sums multiplied."""

from __future__ import annotations

from mlip_autopipec.core.compiled.jit import inline, kernel, splice
from mlip_autopipec.core.compiled.packing import (
    HAS_COMPRESS,
    count_bits,
    inverse_root,
    mask_inside,
    store_packed,
    whole_part,
)
from mlip_autopipec.core.compiled.vectors import WIDTH, Lanes, load, maximum, minimum, spread, store
from mlip_autopipec.core.compiled.views import LongArray, pointer, take_ticket, viewer
from mlip_autopipec.sampling.soap.products import BLOCK, MOST, add_products
from mlip_autopipec.sampling.soap.records import INNER, OUTER, SLAB, Frame, Outcome, Scratch
from mlip_autopipec.sampling.soap.tables import Tables

_tables, _frame, _scratch, _outcome = map(viewer, (Tables, Frame, Scratch, Outcome))


@kernel
def describe_slabs(t: LongArray, frame: LongArray, s: LongArray, out: LongArray, counter: LongArray) -> None:
    """Take slabs of centres from the shared `counter` until none is left.

    The arguments are the tables of a packed Tables, Frame, Scratch and Outcome.
    """
    _work(_tables(t), _frame(frame), _scratch(s), _outcome(out), pointer(counter))


@splice
def _work(t: Tables, frame: Frame, s: Scratch, out: Outcome, counter: LongArray) -> None:
    while True:
        slab = take_ticket(counter)
        if slab >= frame.n_slabs:
            break
        for i in range(slab * SLAB, min((slab + 1) * SLAB, frame.n_centres)):
            _expand(t, frame, s, i)
            if frame.wanted == INNER:
                numbers = t.n_species * (t.l_max + 1) ** 2 * t.width
                for k in range(numbers):
                    out.totals[slab * numbers + k] += s.sums[k]
            else:
                _multiply(t, s)
                if frame.wanted == OUTER:
                    for k in range(t.n_features):
                        out.totals[slab * t.n_features + k] += s.spectrum[k]
                else:
                    for k in range(t.n_features):
                        out.rows[i * t.n_features + k] = s.spectrum[k]


@inline
def _expand(t: Tables, frame: Frame, s: Scratch, i: int) -> None:
    """Fill `sums` with the expansion coefficients c_nlm of each species around one centre."""
    _gather(t, frame, s, i)
    rows = (t.l_max + 1) ** 2
    for k in range(0, t.n_species * rows * t.width, WIDTH):
        store(s.sums, k, spread(0.0))
    for nu in range(t.n_species):
        _pad(t, s, nu)
        first = nu * s.capacity
        for at in range(first, first + s.counts[nu], BLOCK):
            count = min(BLOCK, first + s.counts[nu] - at)
            for j in range(0, count, WIDTH):
                _harmonics(t, s, at + j, j)
            for j in range(count):
                _radial(t, s, j)
            _sum(t, s, nu * rows, count)
        for row in range(rows):
            for k in range(0, t.width, WIDTH):
                place = (nu * rows + row) * t.width + k
                store(s.sums, place, load(s.sums, place) * t.norms[row])


@inline
def _gather(t: Tables, frame: Frame, s: Scratch, i: int) -> None:
    """Write the neighbours of one centre, itself included, to the streams of their species."""
    for nu in range(t.n_species):
        s.counts[nu] = 0
    span, ny, nz = frame.span, frame.shape[1], frame.shape[2]
    a, b, c = frame.homes[3 * i], frame.homes[3 * i + 1], frame.homes[3 * i + 2]
    low, high = max(c - span, 0), min(c + span, nz - 1)
    for ia in range(max(a - span, 0), min(a + span, frame.shape[0] - 1) + 1):
        for ib in range(max(b - span, 0), min(b + span, ny - 1) + 1):
            column = (ia * ny + ib) * nz
            last = frame.first[column + high + 1]
            for k in range(frame.first[column + low], last, WIDTH):
                _sort_in(t, frame, s, i, k, last - k)


@inline
def _sort_in(t: Tables, frame: Frame, s: Scratch, i: int, k: int, left: int) -> None:
    """Append those of the eight atoms from `k` on that are inside; only `left` of them are meant."""
    x = load(frame.x, k) - frame.centres[3 * i]
    y = load(frame.y, k) - frame.centres[3 * i + 1]
    z = load(frame.z, k) - frame.centres[3 * i + 2]
    square = x * x + y * y + z * z
    tags = load(frame.tags, k)
    meant = (1 << min(left, WIDTH)) - 1
    stream = t.n_species * s.capacity
    for nu in range(t.n_species):
        mask = mask_inside(square, t.limits[0], tags, float(nu)) & meant
        if mask != 0:
            at = nu * s.capacity + s.counts[nu]
            if HAS_COMPRESS:
                store_packed(s.streams, at, x, mask)
                store_packed(s.streams, stream + at, y, mask)
                store_packed(s.streams, 2 * stream + at, z, mask)
                store_packed(s.streams, 3 * stream + at, square, mask)
            else:
                _pack_by_lane(s, at, stream, mask, x, y, z, square)
            s.counts[nu] += count_bits(mask)


@inline
def _pack_by_lane(s: Scratch, at: int, stream: int, mask: int, x: Lanes, y: Lanes, z: Lanes, square: Lanes) -> None:
    """`store_packed` for machines without that instruction: write every lane, advance past those inside."""
    store(s.spectrum, 0, x)
    store(s.harmonics, 0, y)
    store(s.radial, 0, z)
    store(s.fractions, 0, square)
    for lane in range(WIDTH):
        s.streams[at] = s.spectrum[lane]
        s.streams[stream + at] = s.harmonics[lane]
        s.streams[2 * stream + at] = s.radial[lane]
        s.streams[3 * stream + at] = s.fractions[lane]
        at += (mask >> lane) & 1


@inline
def _pad(t: Tables, s: Scratch, nu: int) -> None:
    """Fill the last eight up with neighbours far outside, where the tables are zero."""
    stream = t.n_species * s.capacity
    at, count = nu * s.capacity, s.counts[nu]
    padded = (count + WIDTH - 1) // WIDTH * WIDTH
    for k in range(at + count, at + padded):
        s.streams[k] = 0.0
        s.streams[stream + k] = 0.0
        s.streams[2 * stream + k] = 0.0
        s.streams[3 * stream + k] = 4.0 * t.limits[0]
    s.counts[nu] = padded


@inline
def _harmonics(t: Tables, s: Scratch, at: int, j: int) -> None:
    """Harmonics times r^l, without norms, and place in the radial tables, of the eight neighbours at `at`."""
    stream = t.n_species * s.capacity
    x, y, z = load(s.streams, at), load(s.streams, stream + at), load(s.streams, 2 * stream + at)
    square = load(s.streams, 3 * stream + at)
    re, im = spread(1.0), spread(0.0)
    side = t.l_max + 1
    for m in range(side):
        row = m * m + 2 * m
        last, before = spread(1.0), spread(0.0)
        if m == 0:
            store(s.harmonics, j, last)
        else:
            store(s.harmonics, (row - 1) * BLOCK + j, re)
            store(s.harmonics, row * BLOCK + j, im)
        for angular in range(m + 1, side):
            value = z * last - square * t.recursion[angular * side + m] * before
            row = angular * angular + 2 * m
            if m == 0:
                store(s.harmonics, row * BLOCK + j, value)
            else:
                store(s.harmonics, (row - 1) * BLOCK + j, value * re)
                store(s.harmonics, row * BLOCK + j, value * im)
            before, last = last, value
        re, im = re * x - im * y, re * y + im * x
    # The centre itself has r = 0, whose inverse root is not finite.
    root = square * inverse_root(maximum(square, spread(1e-30)))
    position = minimum(root * t.limits[1], spread(float(t.n_bins)))
    store(s.fractions, j, position - whole_part(position, s.bins, j))


@inline
def _radial(t: Tables, s: Scratch, j: int) -> None:
    """Interpolate all radial functions of one neighbour."""
    columns = t.columns
    at, w = s.bins[j] * 4 * columns, s.fractions[j]
    for k in range(0, columns, WIDTH):
        c0, c1 = load(t.radial, at + k), load(t.radial, at + columns + k)
        c2, c3 = load(t.radial, at + 2 * columns + k), load(t.radial, at + 3 * columns + k)
        store(s.radial, j * columns + k, c0 + (c1 + (c2 + c3 * w) * w) * w)


@inline
def _sum(t: Tables, s: Scratch, first_row: int, count: int) -> None:
    """Add radial functions times harmonics of one block to the sums."""
    for angular in range(t.l_max + 1):
        for row in range(angular * angular, (angular + 1) * (angular + 1), MOST):
            parts = min(MOST, (angular + 1) * (angular + 1) - row)
            for k in range(0, t.width, WIDTH):
                add_products(
                    s.sums,
                    (first_row + row) * t.width + k,
                    t.width,
                    s.harmonics,
                    row * BLOCK,
                    s.radial,
                    angular * t.width + k,
                    t.columns,
                    count,
                    parts,
                )


@inline
def _multiply(t: Tables, s: Scratch) -> None:
    """p_nn'l of every pair of species: prefactor sum_m c_nlm c'_n'lm, n' >= n where the species are the same."""
    rows, width, at = (t.l_max + 1) ** 2, t.width, 0
    for mu in range(t.n_species):
        for nu in range(mu, t.n_species):
            for angular in range(t.l_max + 1):
                one, other = (mu * rows + angular * angular) * width, (nu * rows + angular * angular) * width
                for n in range(t.n_max):
                    start = n if mu == nu else 0
                    for k in range(start, t.n_max, WIDTH):
                        # What is written beyond n_max is overwritten by what comes next.
                        total = spread(0.0)
                        for p in range(2 * angular + 1):
                            total += load(s.sums, other + p * width + k) * s.sums[one + p * width + n]
                        store(s.spectrum, at + k - start, total * t.prefactors[angular])
                    at += t.n_max - start
