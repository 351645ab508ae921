"""Sums of radial functions times harmonics over neighbours, with all sums in registers.

Lanes are eight radial functions; every harmonic of a neighbour is spread over them. A loop keeps as many sums in
flight as the machine has registers for: those of one angular momentum together.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from mlip_autopipec.core.compiled.jit import instruction
from mlip_autopipec.core.compiled.packing import HAS_COMPRESS
from mlip_autopipec.core.compiled.vectors import FLAGS, INT64, WIDTH, emit_load, emit_spread, emit_store, vector

MOST = 14 if HAS_COMPRESS else 6
"""Rows of harmonics in one call: a sum takes one of 32 registers with AVX-512, two of 16 without."""
BLOCK = 32
"""Neighbours that go through all stages together, so that what one stage leaves is near when the next needs it."""


@instruction
def add_products(
    typingctx: Any,
    sums: Any,
    out: Any,
    next_row: Any,
    harmonics: Any,
    Y: Any,
    radial: Any,
    R: Any,
    next_neighbour: Any,
    count: Any,
    parts: Any,
) -> Any:
    """Add sum_j R_n(j) Y_p(j) for eight n and `parts` rows p to `sums`; `count` neighbours, an even number.

    `parts` is MOST or odd and less: what remains of 2 l + 1 rows. Rows of `harmonics` are BLOCK numbers long; `out`,
    `Y`, `R` are places of the first numbers.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = args[-1]
        done = builder.append_basic_block("done")
        choice = builder.switch(parts, done)
        for n in (*range(1, MOST, 2), MOST):
            body = builder.append_basic_block(f"parts{n}")
            choice.add_case(INT64(n), body)
            builder.position_at_end(body)
            _emit_sums(builder, args[:-1], n)
            builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    whole = types.int64
    return types.void(sums, whole, whole, harmonics, whole, radial, whole, whole, whole, whole), codegen


def _emit_sums(builder: Any, args: Any, parts: int) -> None:
    sums, out, next_row, harmonics, Y, radial, R, next_neighbour, count = args
    # Few sums would wait for one another: two sets of them.
    sets = 2 if 2 * parts <= MOST else 1
    zero = ir.Constant(vector(WIDTH), None)
    totals = [cgutils.alloca_once(builder, vector(WIDTH)) for _ in range(sets * parts)]
    for total in totals:
        builder.store(zero, total)
    with cgutils.for_range(builder, builder.sdiv(count, INT64(sets))) as loop:
        for k in range(sets):
            j = builder.add(builder.mul(loop.index, INT64(sets)), INT64(k))
            function = emit_load(builder, radial, builder.add(R, builder.mul(j, next_neighbour)))
            place = builder.add(Y, j)
            for p in range(parts):
                harmonic = builder.load(builder.gep(harmonics, [builder.add(place, INT64(p * BLOCK))]))
                product = builder.fmul(function, emit_spread(builder, harmonic), flags=FLAGS)
                total = totals[k * parts + p]
                builder.store(builder.fadd(builder.load(total), product, flags=FLAGS), total)
    for p in range(parts):
        place = builder.add(out, builder.mul(next_row, INT64(p)))
        value = emit_load(builder, sums, place)
        for k in range(sets):
            value = builder.fadd(value, builder.load(totals[k * parts + p]), flags=FLAGS)
        emit_store(builder, sums, place, value)
