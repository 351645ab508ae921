"""Inner loops of the vectorised evaluator with all sums in registers, written out for one to four radial functions.

A loop whose trip count is known only at run time keeps one sum in flight and waits for it; these keep up to eight.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from mlip_autopipec.core.compiled.jit import instruction
from mlip_autopipec.core.compiled.vectors import WIDTH, emit_load, emit_store, vector

_VECTOR = vector(WIDTH)
_FLAGS = ("contract", "nsz")
MOST = 4
"""Radial functions in one tile."""


def _offset(builder: Any, index: Any, numbers: int) -> Any:
    return builder.add(index, ir.IntType(64)(numbers)) if numbers else index


def _added(builder: Any, total: Any, a: Any, b: Any) -> Any:
    return builder.fadd(total, builder.fmul(a, b, flags=_FLAGS), flags=_FLAGS)


def sum_tile(n: int, parts: int) -> Any:
    """Return a function that adds n radial functions times `parts` rows of harmonics, over some blocks, to sums.

    Its arguments: bonds, place of the first R, numbers per bond block; harmonics, place of the first Y, numbers per
    block; blocks; sums, place of the first result, numbers from one radial function's results to the next.
    """

    @instruction
    def tile(
        typingctx: Any,
        bonds: Any,
        R: Any,
        stride: Any,
        Ys: Any,
        Y: Any,
        Y_stride: Any,
        blocks: Any,
        sums: Any,
        out: Any,
        next_n: Any,
    ) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            bonds, R, stride, Ys, Y, Y_stride, blocks, sums, out, next_n = args
            places = [
                _offset(builder, builder.add(out, builder.mul(next_n, ir.IntType(64)(k))), p * WIDTH * WIDTH)
                for k in range(n)
                for p in range(parts)
            ]
            totals = [cgutils.alloca_once(builder, _VECTOR) for _ in places]
            for place, total in zip(places, totals, strict=True):
                builder.store(emit_load(builder, sums, place), total)
            with cgutils.for_range(builder, blocks) as loop:
                at = builder.add(R, builder.mul(loop.index, stride))
                row = builder.add(Y, builder.mul(loop.index, Y_stride))
                harmonics = [emit_load(builder, Ys, _offset(builder, row, p * WIDTH)) for p in range(parts)]
                for k in range(n):
                    radial = emit_load(builder, bonds, _offset(builder, at, k * WIDTH))
                    for p in range(parts):
                        total = totals[k * parts + p]
                        builder.store(_added(builder, builder.load(total), radial, harmonics[p]), total)
            for place, total in zip(places, totals, strict=True):
                emit_store(builder, sums, place, builder.load(total))
            return context.get_dummy_value()

        whole = types.int64
        return types.void(bonds, whole, whole, Ys, whole, whole, whole, sums, whole, whole), codegen

    return tile


sum_1_1, sum_2_1, sum_3_1, sum_4_1 = (sum_tile(n, 1) for n in range(1, MOST + 1))
sum_1_2, sum_2_2, sum_3_2, sum_4_2 = (sum_tile(n, 2) for n in range(1, MOST + 1))
