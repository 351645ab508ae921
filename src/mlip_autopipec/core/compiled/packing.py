"""Picks the neighbours inside the cutoff out of a list, eight at a time."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from mlip_autopipec.core.compiled.jit import cpu_features, instruction
from mlip_autopipec.core.compiled.vectors import (
    DOUBLE,
    FLAGS,
    INT32,
    INT64,
    WIDTH,
    emit_pointer,
    emit_spread,
    lanes8,
    vector,
)

HAS_COMPRESS = "+avx512f" in cpu_features() and "+avx512vl" in cpu_features()
"""Whether the machine packs lanes in one instruction."""


@instruction
def whole_part(typingctx: Any, value: Any, pointer_: Any, index: Any) -> Any:
    """Store the lanes, truncated, as integers at array[index:] (int32) and return them as doubles."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        integers = builder.fptosi(args[0], vector(WIDTH, INT32))
        pointer = emit_pointer(builder, args[1], args[2], integers.type)
        builder.store(integers, pointer).align = 4
        return builder.sitofp(integers, vector(WIDTH))

    return lanes8(lanes8, pointer_, types.int64), codegen


@instruction
def inverse_root(typingctx: Any, value: Any) -> Any:
    """Return 1 / sqrt of each lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = vector(WIDTH)
        if not HAS_COMPRESS:
            root = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), "llvm.sqrt.v8f64")
            return builder.fdiv(ir.Constant(kind, [1.0] * WIDTH), builder.call(root, [args[0]]))
        # A 14-bit estimate and two Newton steps cost a third of a square root and a division.
        estimate = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [kind, kind, ir.IntType(8)]),
            "llvm.x86.avx512.rsqrt14.pd.512",
        )
        y = builder.call(estimate, [args[0], ir.Constant(kind, None), ir.IntType(8)(255)])
        half = builder.fmul(args[0], ir.Constant(kind, [0.5] * WIDTH), flags=FLAGS)
        for _ in range(2):
            square = builder.fmul(builder.fmul(half, y, flags=FLAGS), y, flags=FLAGS)
            error = builder.fsub(ir.Constant(kind, [0.5] * WIDTH), square, flags=FLAGS)
            y = builder.fadd(y, builder.fmul(y, error, flags=FLAGS), flags=FLAGS)
        return y

    return lanes8(lanes8), codegen


@instruction
def mask_inside(typingctx: Any, value: Any, limit: Any, tag: Any, wanted: Any) -> Any:
    """Return a bit per lane: value < limit and tag == wanted."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        below = builder.fcmp_ordered("<", args[0], emit_spread(builder, args[1], WIDTH))
        same = builder.fcmp_ordered("==", args[2], emit_spread(builder, args[3], WIDTH))
        bits = builder.bitcast(builder.and_(below, same), ir.IntType(8))
        return builder.zext(bits, INT64)

    return types.int64(lanes8, types.float64, lanes8, types.float64), codegen


@instruction
def count_bits(typingctx: Any, mask: Any) -> Any:
    """Return the number of set bits."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.int64), codegen


@instruction
def store_packed(typingctx: Any, pointer_: Any, index: Any, value: Any, mask: Any) -> Any:
    """Store the lanes whose bit is set side by side at array[index:]; what follows them is overwritten too."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(builder.trunc(args[3], ir.IntType(8)), vector(WIDTH, ir.IntType(1)))
        packed = _compressed(builder, args[2], bits)
        pointer = emit_pointer(builder, args[0], args[1], packed.type)
        builder.store(packed, pointer).align = 8
        return context.get_dummy_value()

    return types.void(pointer_, types.int64, lanes8, types.int64), codegen


@instruction
def store_packed_indices(typingctx: Any, pointer_: Any, index: Any, source: Any, mask: Any) -> Any:
    """Like `store_packed` for the first eight integers (int32) of `source`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        integers = vector(WIDTH, INT32)
        bits = builder.bitcast(builder.trunc(args[3], ir.IntType(8)), vector(WIDTH, ir.IntType(1)))
        loaded = builder.load(emit_pointer(builder, args[2], INT64(0), integers))
        loaded.align = 4
        pointer = emit_pointer(builder, args[0], args[1], integers)
        builder.store(_compressed(builder, loaded, bits), pointer).align = 4
        return context.get_dummy_value()

    return types.void(pointer_, types.int64, source, types.int64), codegen


def _compressed(builder: Any, vector: Any, bits: Any) -> Any:
    name = "v8f64" if vector.type.element == DOUBLE else "v8i32"
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector.type, [vector.type, vector.type, bits.type]),
        f"llvm.x86.avx512.mask.compress.{name}",
    )
    return builder.call(function, [vector, ir.Constant(vector.type, None), bits])
