"""Vectors of eight doubles inside numba kernels: a type, its arithmetic, loads and stores.

numba leaves vectorisation to the compiler, which does not see through loops like ours. Here `a * b + c` on `Lanes` is
one instruction for eight lanes: a zmm register with AVX-512, two ymm with AVX2, four pairs elsewhere. Multiplications
and additions carry LLVM's `contract` flag, so that they fuse where the machine has FMA and only there.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, models, register_model, type_callable

from mlip_autopipec.core.compiled.jit import instruction

WIDTH = 8
FLAGS = ("contract", "nsz")
DOUBLE, INT32, INT64 = ir.DoubleType(), ir.IntType(32), ir.IntType(64)


class LanesType(types.Type):
    """numba's view of a vector of doubles."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Lanes{width}")


class Lanes:
    """What type checkers see of a vector inside a kernel; it has no life outside of one."""

    def __add__(self, other: Lanes | float) -> Lanes:
        raise NotImplementedError

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __add__

    def __neg__(self) -> Lanes:
        raise NotImplementedError


lanes8, lanes4 = LanesType(8), LanesType(4)


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: LanesType) -> None:
        super().__init__(dmm, fe_type, vector(fe_type.width))


def vector(width: int, element: ir.Type = DOUBLE) -> ir.VectorType:
    return ir.VectorType(element, width)


def emit_spread(builder: Any, value: Any, width: int = WIDTH) -> Any:
    """Return a vector that has a scalar in every lane."""
    undefined = ir.Constant(vector(width, value.type), ir.Undefined)
    single = builder.insert_element(undefined, value, INT32(0))
    return builder.shuffle_vector(single, undefined, ir.Constant(vector(width, INT32), [0] * width))


def _as_vector(context: Any, builder: Any, value: Any, kind: Any, width: int) -> Any:
    if isinstance(kind, LanesType):
        return value
    return emit_spread(builder, context.cast(builder, value, kind, types.float64), width)


def _define_arithmetic(operation: Any, instruction: str) -> None:
    @type_callable(operation)
    def typer(context: Any) -> Any:
        def typed(a: Any, b: Any) -> Any:
            for one, other in ((a, b), (b, a)):
                if isinstance(one, LanesType) and (one == other or isinstance(other, (types.Float, types.Integer))):
                    return one
            return None

        return typed

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        width = sig.return_type.width
        left, right = (_as_vector(context, builder, v, k, width) for v, k in zip(args, sig.args, strict=True))
        return getattr(builder, instruction)(left, right, flags=FLAGS)

    for left, right in ((LanesType, LanesType), (LanesType, types.Number), (types.Number, LanesType)):
        lower_builtin(operation, left, right)(lower)


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.iadd, "fadd"),
    (operator.isub, "fsub"),
    (operator.imul, "fmul"),
):
    _define_arithmetic(_operation, _instruction)


@type_callable(operator.neg)
def _type_neg(context: Any) -> Any:
    def typed(a: Any) -> Any:
        return a if isinstance(a, LanesType) else None

    return typed


@lower_builtin(operator.neg, LanesType)
def _lower_neg(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.fsub(ir.Constant(args[0].type, [-0.0] * sig.return_type.width), args[0], flags=FLAGS)


def emit_pointer(builder: Any, pointer: Any, index: Any, pointee: Any) -> Any:
    """Return the address of pointer[index] as that of a `pointee`."""
    return builder.bitcast(builder.gep(pointer, [index]), pointee.as_pointer())


def emit_load(builder: Any, pointer: Any, index: Any, width: int = WIDTH) -> Any:
    """Return the lanes at pointer[index:]."""
    value = builder.load(emit_pointer(builder, pointer, index, vector(width)))
    value.align = 8
    return value


def emit_store(builder: Any, pointer: Any, index: Any, value: Any) -> None:
    """Store lanes at pointer[index:]."""
    builder.store(value, emit_pointer(builder, pointer, index, value.type)).align = 8


def _loader(width: int) -> Any:
    @instruction
    def load_lanes(typingctx: Any, pointer_: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return emit_load(builder, args[0], args[1], width)

        return LanesType(width)(pointer_, types.int64), codegen

    return load_lanes


load = _loader(8)
load_row = _loader(4)


@instruction
def store(typingctx: Any, pointer_: Any, index: Any, value: Any) -> Any:
    """Store all lanes at array[index:]."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit_store(builder, args[0], args[1], args[2])
        return context.get_dummy_value()

    return types.void(pointer_, types.int64, value), codegen


@instruction
def spread(typingctx: Any, value: Any) -> Any:
    """Return eight lanes of one scalar."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit_spread(builder, args[0], WIDTH)

    return lanes8(types.float64), codegen


@instruction
def maximum(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the larger of each pair of lanes (the second where one is not a number)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return lanes8(lanes8, lanes8), codegen


@instruction
def minimum(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the smaller of each pair of lanes (the second where one is not a number)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[0], args[1])

    return lanes8(lanes8, lanes8), codegen


@instruction
def magnitude(typingctx: Any, a: Any) -> Any:
    """Return the absolute value of each lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector(WIDTH), [vector(WIDTH)]), "llvm.fabs.v8f64"
        )
        return builder.call(function, [args[0]])

    return lanes8(lanes8), codegen
