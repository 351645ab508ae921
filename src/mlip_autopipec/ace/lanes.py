"""Vectors of eight doubles inside numba kernels: a type, its arithmetic, and loads, stores and shuffles.

numba leaves vectorisation to the compiler, which does not see through loops like ours. Here `a * b + c` on `Lanes` is
one instruction for eight lanes: a zmm register with AVX-512, two ymm with AVX2, four pairs elsewhere. Multiplications
and additions carry LLVM's `contract` flag, so that they fuse where the machine has FMA and only there.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

from mlip_autopipec.ace.jit import cpu_features

WIDTH = 8
_HUGE_PAGE, _LARGE = 1 << 21, 1 << 18
_FLAGS = ("contract", "nsz")
_DOUBLE, _INT32, _INT64 = ir.DoubleType(), ir.IntType(32), ir.IntType(64)
HAS_COMPRESS = "+avx512f" in cpu_features() and "+avx512vl" in cpu_features()


class LanesType(types.Type):  # type: ignore[misc]
    """numba's view of a vector of doubles."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"Lanes{width}")


class Lanes:
    """What type checkers see of a vector inside a kernel; it has no life outside of one."""

    def __add__(self, other: Lanes | float) -> Lanes: ...
    def __radd__(self, other: float) -> Lanes: ...
    def __sub__(self, other: Lanes | float) -> Lanes: ...
    def __rsub__(self, other: float) -> Lanes: ...
    def __mul__(self, other: Lanes | float) -> Lanes: ...
    def __rmul__(self, other: float) -> Lanes: ...
    def __truediv__(self, other: Lanes | float) -> Lanes: ...
    def __neg__(self) -> Lanes: ...


lanes8, lanes4 = LanesType(8), LanesType(4)


@register_model(LanesType)
class _LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: LanesType) -> None:
        super().__init__(dmm, fe_type, vector(fe_type.width))


def vector(width: int, element: ir.Type = _DOUBLE) -> ir.VectorType:
    return ir.VectorType(element, width)


def emit_spread(builder: Any, value: Any, width: int = WIDTH) -> Any:
    """Return a vector that has a scalar in every lane."""
    undefined = ir.Constant(vector(width, value.type), ir.Undefined)
    single = builder.insert_element(undefined, value, _INT32(0))
    return builder.shuffle_vector(single, undefined, ir.Constant(vector(width, _INT32), [0] * width))


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
        return getattr(builder, instruction)(left, right, flags=_FLAGS)

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
    return builder.fsub(ir.Constant(args[0].type, [-0.0] * sig.return_type.width), args[0], flags=_FLAGS)


def _at(builder: Any, pointer: Any, index: Any, pointee: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [index]), pointee.as_pointer())


def emit_load(builder: Any, pointer: Any, index: Any, width: int = WIDTH) -> Any:
    """Return the lanes at pointer[index:]."""
    value = builder.load(_at(builder, pointer, index, vector(width)))
    value.align = 8
    return value


def emit_store(builder: Any, pointer: Any, index: Any, value: Any) -> None:
    """Store lanes at pointer[index:]."""
    builder.store(value, _at(builder, pointer, index, value.type)).align = 8


def _loader(width: int) -> Any:
    @intrinsic  # type: ignore[misc]
    def load_lanes(typingctx: Any, pointer_: Any, index: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return emit_load(builder, args[0], args[1], width)

        return LanesType(width)(pointer_, types.int64), codegen

    return load_lanes


load = _loader(8)
load_row = _loader(4)


@intrinsic  # type: ignore[misc]
def store(typingctx: Any, pointer_: Any, index: Any, value: Any) -> Any:
    """Store all lanes at array[index:]."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        emit_store(builder, args[0], args[1], args[2])
        return context.get_dummy_value()

    return types.void(pointer_, types.int64, value), codegen


@intrinsic  # type: ignore[misc]
def spread(typingctx: Any, value: Any) -> Any:
    """Return eight lanes of one scalar."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit_spread(builder, args[0], WIDTH)

    return lanes8(types.float64), codegen


@intrinsic  # type: ignore[misc]
def spread_row(typingctx: Any, value: Any) -> Any:
    """Return four lanes of one scalar."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit_spread(builder, args[0], 4)

    return lanes4(types.float64), codegen


def _shuffle(builder: Any, a: Any, b: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(vector(len(order), _INT32), order))


def _exchanged(builder: Any, a: Any, b: Any, step: int) -> tuple[Any, Any]:
    """Swap every second block of `step` lanes of `a` with the block before it in `b`."""
    low = [lane if not lane & step else lane - step + WIDTH for lane in range(WIDTH)]
    high = [lane + step if not lane & step else lane + WIDTH for lane in range(WIDTH)]
    return _shuffle(builder, a, b, low), _shuffle(builder, a, b, high)


def _transposed(builder: Any, rows: list[Any], steps: tuple[int, ...]) -> list[Any]:
    """Transpose in rounds of exchanging blocks of `steps` lanes."""
    for step in steps:
        for row in range(len(rows)):
            if not row & step:
                rows[row], rows[row + step] = _exchanged(builder, rows[row], rows[row + step], step)
    return rows


@intrinsic  # type: ignore[misc]
def transpose(typingctx: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Return the eight columns of eight rows."""
    kind = types.UniTuple(lanes8, WIDTH)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_tuple(builder, kind, _transposed(builder, list(args), (4, 2, 1)))

    return kind(*[lanes8] * WIDTH), codegen


@intrinsic  # type: ignore[misc]
def totals(typingctx: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Return the sums over lanes of eight vectors, one per lane: a transposition that adds what it exchanges."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = list(args)
        for step in (4, 2, 1):
            pairs = [_exchanged(builder, rows[row], rows[row + step], step) for row in range(step)]
            rows = [builder.fadd(low, high, flags=_FLAGS) for low, high in pairs]
        return rows[0]

    return lanes8(*[lanes8] * WIDTH), codegen


@intrinsic  # type: ignore[misc]
def columns_of_rows(typingctx: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any, g: Any, h: Any) -> Any:
    """Return the four columns (eight lanes each) of eight rows of four."""
    kind = types.UniTuple(lanes8, 4)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # Rows k and k + 4 share a register; two rounds of exchanges finish.
        rows = [_shuffle(builder, args[k], args[k + 4], list(range(8))) for k in range(4)]
        return context.make_tuple(builder, kind, _transposed(builder, rows, (2, 1)))

    return kind(*[lanes4] * WIDTH), codegen


@intrinsic  # type: ignore[misc]
def rows_of_columns(typingctx: Any, x: Any, y: Any, z: Any) -> Any:
    """Return eight rows (x, y, z, 0) of three columns."""
    kind = types.UniTuple(lanes4, WIDTH)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows = _transposed(builder, [*args, ir.Constant(vector(WIDTH), None)], (2, 1))
        halves = [_shuffle(builder, row, row, order) for order in ([0, 1, 2, 3], [4, 5, 6, 7]) for row in rows]
        return context.make_tuple(builder, kind, halves)

    return kind(lanes8, lanes8, lanes8), codegen


@intrinsic  # type: ignore[misc]
def total(typingctx: Any, value: Any) -> Any:
    """Return the sum of all lanes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector, width = args[0], sig.args[0].width
        while width > 1:
            width //= 2
            low = _shuffle(builder, vector, vector, list(range(width)))
            high = _shuffle(builder, vector, vector, list(range(width, 2 * width)))
            vector = builder.fadd(low, high)
        return builder.extract_element(vector, _INT32(0))

    return types.float64(value), codegen


@intrinsic  # type: ignore[misc]
def maximum(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the larger of each pair of lanes (the second where one is not a number)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[0], args[1])

    return lanes8(lanes8, lanes8), codegen


@intrinsic  # type: ignore[misc]
def minimum(typingctx: Any, a: Any, b: Any) -> Any:
    """Return the smaller of each pair of lanes (the second where one is not a number)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[0], args[1])

    return lanes8(lanes8, lanes8), codegen


@intrinsic  # type: ignore[misc]
def magnitude(typingctx: Any, a: Any) -> Any:
    """Return the absolute value of each lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector(WIDTH), [vector(WIDTH)]), "llvm.fabs.v8f64"
        )
        return builder.call(function, [args[0]])

    return lanes8(lanes8), codegen


@intrinsic  # type: ignore[misc]
def whole_part(typingctx: Any, value: Any, pointer_: Any, index: Any) -> Any:
    """Store the lanes, truncated, as integers at array[index:] (int32) and return them as doubles."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        integers = builder.fptosi(args[0], vector(WIDTH, _INT32))
        pointer = _at(builder, args[1], args[2], integers.type)
        builder.store(integers, pointer).align = 4
        return builder.sitofp(integers, vector(WIDTH))

    return lanes8(lanes8, pointer_, types.int64), codegen


@intrinsic  # type: ignore[misc]
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
        half = builder.fmul(args[0], ir.Constant(kind, [0.5] * WIDTH), flags=_FLAGS)
        for _ in range(2):
            square = builder.fmul(builder.fmul(half, y, flags=_FLAGS), y, flags=_FLAGS)
            error = builder.fsub(ir.Constant(kind, [0.5] * WIDTH), square, flags=_FLAGS)
            y = builder.fadd(y, builder.fmul(y, error, flags=_FLAGS), flags=_FLAGS)
        return y

    return lanes8(lanes8), codegen


@intrinsic  # type: ignore[misc]
def mask_inside(typingctx: Any, value: Any, limit: Any, tag: Any, wanted: Any) -> Any:
    """Return a bit per lane: value < limit and tag == wanted."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        below = builder.fcmp_ordered("<", args[0], emit_spread(builder, args[1], WIDTH))
        same = builder.fcmp_ordered("==", args[2], emit_spread(builder, args[3], WIDTH))
        bits = builder.bitcast(builder.and_(below, same), ir.IntType(8))
        return builder.zext(bits, _INT64)

    return types.int64(lanes8, types.float64, lanes8, types.float64), codegen


@intrinsic  # type: ignore[misc]
def count_bits(typingctx: Any, mask: Any) -> Any:
    """Return the number of set bits."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.int64), codegen


@intrinsic  # type: ignore[misc]
def store_packed(typingctx: Any, pointer_: Any, index: Any, value: Any, mask: Any) -> Any:
    """Store the lanes whose bit is set side by side at array[index:]; what follows them is overwritten too."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(builder.trunc(args[3], ir.IntType(8)), vector(WIDTH, ir.IntType(1)))
        packed = _compressed(builder, args[2], bits)
        pointer = _at(builder, args[0], args[1], packed.type)
        builder.store(packed, pointer).align = 8
        return context.get_dummy_value()

    return types.void(pointer_, types.int64, lanes8, types.int64), codegen


@intrinsic  # type: ignore[misc]
def store_packed_indices(typingctx: Any, pointer_: Any, index: Any, source: Any, mask: Any) -> Any:
    """Like `store_packed` for the first eight integers (int32) of `source`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        integers = vector(WIDTH, _INT32)
        bits = builder.bitcast(builder.trunc(args[3], ir.IntType(8)), vector(WIDTH, ir.IntType(1)))
        loaded = builder.load(_at(builder, args[2], _INT64(0), integers))
        loaded.align = 4
        pointer = _at(builder, args[0], args[1], integers)
        builder.store(_compressed(builder, loaded, bits), pointer).align = 4
        return context.get_dummy_value()

    return types.void(pointer_, types.int64, source, types.int64), codegen


def _compressed(builder: Any, vector: Any, bits: Any) -> Any:
    name = "v8f64" if vector.type.element == _DOUBLE else "v8i32"
    function = cgutils.get_or_insert_function(
        builder.module,
        ir.FunctionType(vector.type, [vector.type, vector.type, bits.type]),
        f"llvm.x86.avx512.mask.compress.{name}",
    )
    return builder.call(function, [vector, ir.Constant(vector.type, None), bits])


@intrinsic  # type: ignore[misc]
def prefetch(typingctx: Any, pointer_: Any, index: Any) -> Any:
    """Ask for the cache line of array[index]."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        byte = ir.IntType(8)
        pointer = _at(builder, args[0], args[1], byte)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte.as_pointer(), _INT32, _INT32, _INT32]),
            "llvm.prefetch.p0",
        )
        builder.call(function, [pointer, _INT32(0), _INT32(3), _INT32(1)])
        return context.get_dummy_value()

    return types.void(pointer_, types.int64), codegen


@intrinsic  # type: ignore[misc]
def take_ticket(typingctx: Any, counter: Any) -> Any:
    """Add 1 to counter[0] (int64) atomically and return what it was."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _at(builder, args[0], _INT64(0), _INT64)
        return builder.atomic_rmw("add", pointer, _INT64(1), "monotonic")

    return types.int64(counter), codegen


def aligned_zeros(n: int, dtype: type = float) -> Any:
    """Return a zero array that begins on a cache line, or on a huge page if it is larger than some hundred kB.

    numpy asks the kernel for huge pages from 4 MiB on; tables that are read at random miss the page cache otherwise.
    """
    size = np.dtype(dtype).itemsize
    large = n * size > _LARGE
    boundary = _HUGE_PAGE if large else 64
    raw = np.zeros((max(n * size, 2 * _HUGE_PAGE) if large else n * size) // size + boundary // size, dtype=dtype)
    offset = (-raw.ctypes.data % boundary) // size
    return raw[offset : offset + n]
