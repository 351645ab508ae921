"""Moves numbers between lanes: transpositions, and sums over lanes."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from mlip_autopipec.core.compiled.jit import instruction
from mlip_autopipec.core.compiled.vectors import FLAGS, INT32, WIDTH, lanes4, lanes8, vector


def emit_shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(vector(len(order), INT32), order))


def _exchanged(builder: Any, a: Any, b: Any, step: int) -> tuple[Any, Any]:
    """Swap every second block of `step` lanes of `a` with the block before it in `b`."""
    low = [lane if not lane & step else lane - step + WIDTH for lane in range(WIDTH)]
    high = [lane + step if not lane & step else lane + WIDTH for lane in range(WIDTH)]
    return emit_shuffle(builder, a, b, low), emit_shuffle(builder, a, b, high)


def _transposed(builder: Any, rows: list[Any], steps: tuple[int, ...]) -> list[Any]:
    """Transpose in rounds of exchanging blocks of `steps` lanes."""
    for step in steps:
        for row in range(len(rows)):
            if not row & step:
                rows[row], rows[row + step] = _exchanged(builder, rows[row], rows[row + step], step)
    return rows


@instruction
def transpose(typingctx: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Return the eight columns of eight rows."""
    kind = types.UniTuple(lanes8, WIDTH)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_tuple(builder, kind, _transposed(builder, list(args), (4, 2, 1)))

    return kind(*[lanes8] * WIDTH), codegen


@instruction
def totals(typingctx: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Return the sums over lanes of eight vectors, one per lane: a transposition that adds what it exchanges."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = list(args)
        for step in (4, 2, 1):
            pairs = [_exchanged(builder, rows[row], rows[row + step], step) for row in range(step)]
            rows = [builder.fadd(low, high, flags=FLAGS) for low, high in pairs]
        return rows[0]

    return lanes8(*[lanes8] * WIDTH), codegen


@instruction
def columns_of_rows(typingctx: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Return the four columns (eight lanes each) of eight rows of four."""
    kind = types.UniTuple(lanes8, 4)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # Rows k and k + 4 share a register; two rounds of exchanges finish.
        rows = [emit_shuffle(builder, args[k], args[k + 4], list(range(8))) for k in range(4)]
        return context.make_tuple(builder, kind, _transposed(builder, rows, (2, 1)))

    return kind(*[lanes4] * WIDTH), codegen


@instruction
def rows_of_columns(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """Return eight rows (x, y, z, 0) of three columns."""
    kind = types.UniTuple(lanes4, WIDTH)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = _transposed(builder, [*args, ir.Constant(vector(WIDTH), None)], (2, 1))
        halves = [emit_shuffle(builder, row, row, order) for order in ([0, 1, 2, 3], [4, 5, 6, 7]) for row in rows]
        return context.make_tuple(builder, kind, halves)

    return kind(lanes8, lanes8, lanes8), codegen


@instruction
def total(typingctx: Any, value: Any) -> Any:
    """Return the sum of all lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector, width = args[0], sig.args[0].width
        while width > 1:
            width //= 2
            low = emit_shuffle(builder, vector, vector, list(range(width)))
            high = emit_shuffle(builder, vector, vector, list(range(width, 2 * width)))
            vector = builder.fadd(low, high)
        return builder.extract_element(vector, INT32(0))

    return types.float64(value), codegen
