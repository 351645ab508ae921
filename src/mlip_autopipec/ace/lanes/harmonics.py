"""Spherical harmonics of eight neighbours and what they give to the forces, written out for every l up to `MOST_L`.

Loops over l and m with bounds known only at run time spend more on counting than on arithmetic. Here the code of each
(l, m) stands once, with its constants, and is left as soon as l exceeds the lmax of the pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from mlip_autopipec.ace.harmonics import recursion_coefficients
from mlip_autopipec.core.compiled.jit import instruction
from mlip_autopipec.core.compiled.vectors import WIDTH, emit_load, emit_spread, emit_store, lanes8, vector

MOST_L = 10
_A, _B, _SLOPE, _START = recursion_coefficients(MOST_L)
_FLAGS = ("contract", "nsz")
_VECTOR = vector(WIDTH)
_INT64 = ir.IntType(64)


class _Writer:
    """Emits lane arithmetic and keeps Q_lm(z) and (x + i y)^m for the l reached so far."""

    def __init__(self, builder: Any, x: Any, y: Any, z: Any) -> None:
        self.builder = builder
        self.x, self.y, self.z = x, y, z
        self.Q: dict[tuple[int, int], Any] = {(0, 0): self.constant(1.0)}
        self.powers: list[tuple[Any, Any]] = [(self.constant(1.0), self.constant(0.0))]

    def constant(self, value: float) -> Any:
        return ir.Constant(_VECTOR, [float(value)] * WIDTH)

    def times(self, a: Any, b: Any) -> Any:
        return self.builder.fmul(a, b, flags=_FLAGS)

    def plus(self, a: Any, b: Any) -> Any:
        return self.builder.fadd(a, b, flags=_FLAGS)

    def minus(self, a: Any, b: Any) -> Any:
        return self.builder.fsub(a, b, flags=_FLAGS)

    def fused(self, total: Any, a: Any, b: Any) -> Any:
        return self.plus(total, self.times(a, b))

    def advance(self, angular: int) -> None:
        """Make Q_lm for all m of the next l, and the next power of x + i y."""
        re, im = self.powers[-1]
        if angular == 1:
            self.powers.append((self.x, self.y))
        else:
            self.powers.append(
                (
                    self.minus(self.times(re, self.x), self.times(im, self.y)),
                    self.fused(self.times(re, self.y), im, self.x),
                )
            )
        self.Q[angular, angular] = self.constant(_START[angular, angular])
        for m in range(angular):
            value = self.times(self.times(self.z, self.constant(_A[angular, m])), self.Q[angular - 1, m])
            if m < angular - 1:
                value = self.minus(value, self.times(self.constant(_B[angular, m]), self.Q[angular - 2, m]))
            self.Q[angular, m] = value


@contextmanager
def _level(builder: Any, angular: int, lmax: Any, done: Any) -> Iterator[None]:
    """Emit the code of one l, left for `done` if lmax is below it."""
    body = builder.append_basic_block(f"l{angular}")
    builder.cbranch(builder.icmp_signed("<=", _INT64(angular), lmax), body, done)
    builder.position_at_end(body)
    yield


@instruction
def write_harmonics(typingctx: Any, bonds: Any, at: Any, out: Any, place: Any, lmax: Any) -> Any:
    """Write Y_lm of the bond block at `at`: row l^2 for m = 0, rows l^2 + 2 m - 1 and l^2 + 2 m for Re and Im."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bonds, at, out, place, lmax = args
        x, y, z = (emit_load(builder, bonds, builder.add(at, _INT64(k * WIDTH))) for k in range(3))
        writer = _Writer(builder, x, y, z)

        def put(row: int, value: Any) -> None:
            emit_store(builder, out, builder.add(place, _INT64(row * WIDTH)), value)

        done = builder.append_basic_block("done")
        for angular in range(MOST_L + 1):
            with _level(builder, angular, lmax, done):
                if angular:
                    writer.advance(angular)
                put(angular**2, writer.Q[angular, 0])
                for m in range(1, angular + 1):
                    re, im = writer.powers[m]
                    put(angular**2 + 2 * m - 1, writer.times(writer.Q[angular, m], re))
                    put(angular**2 + 2 * m, writer.times(writer.Q[angular, m], im))
        builder.branch(done)
        builder.position_at_end(done)
        return context.get_dummy_value()

    return types.void(bonds, types.int64, out, types.int64, types.int64), codegen


@instruction
def angular_forces(
    typingctx: Any,
    bonds: Any,
    at: Any,
    R: Any,
    dR: Any,
    columns: Any,
    sizes: Any,
    variables: Any,
    weights: Any,
    lmax: Any,
) -> Any:
    """Return, for E = sum of weights * A, dE/dr at fixed direction and the gradient with respect to x, y, z at fixed r.

    `columns`, `sizes` and `variables` are per l the first radial function, the number of n and the first variable;
    `weights` dE/dA is eight numbers apart from variable to variable; `R`, `dR` are places in `bonds`.
    """
    kind = types.UniTuple(lanes8, 4)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bonds, at, R, dR, columns, sizes, variables, weights, lmax = args
        x, y, z = (emit_load(builder, bonds, builder.add(at, _INT64(k * WIDTH))) for k in range(3))
        writer = _Writer(builder, x, y, z)
        results = [cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, None)) for _ in range(4)]
        for result in results:
            builder.store(ir.Constant(_VECTOR, None), result)
        done = builder.append_basic_block("done")
        for angular in range(MOST_L + 1):
            with _level(builder, angular, lmax, done):
                if angular:
                    writer.advance(angular)
                column, size, variable = (
                    builder.load(builder.gep(p, [_INT64(angular)])) for p in (columns, sizes, variables)
                )
                places = [builder.add(base, builder.mul(column, _INT64(WIDTH))) for base in (R, dR)]
                S, dS = _contract(builder, bonds, places, weights, variable, size, 2 * angular + 1)
                _add_level(writer, angular, S, dS, results)
        builder.branch(done)
        builder.position_at_end(done)
        return context.make_tuple(builder, kind, [builder.load(result) for result in results])

    whole = types.int64
    return kind(bonds, whole, whole, whole, columns, sizes, variables, weights, whole), codegen


def _contract(
    builder: Any, bonds: Any, places: list[Any], weights: Any, variable: Any, size: Any, parts: int
) -> tuple[list[Any], list[Any]]:
    """Emit S_p = sum_n w_np R_n and dS_p = sum_n w_np R'_n; a group's variables run over its parts, then n."""
    totals = [cgutils.alloca_once_value(builder, ir.Constant(_VECTOR, None)) for _ in range(2 * parts)]
    for total in totals:
        builder.store(ir.Constant(_VECTOR, None), total)
    with cgutils.for_range(builder, size) as loop:
        offset = builder.mul(loop.index, _INT64(WIDTH))
        values = [emit_load(builder, bonds, builder.add(place, offset)) for place in places]
        first = builder.add(variable, builder.mul(loop.index, _INT64(parts)))
        for p in range(parts):
            weight = builder.load(builder.gep(weights, [builder.mul(builder.add(first, _INT64(p)), _INT64(WIDTH))]))
            spread = emit_spread(builder, weight)
            for total, value in zip((totals[p], totals[parts + p]), values, strict=True):
                product = builder.fmul(value, spread, flags=_FLAGS)
                builder.store(builder.fadd(builder.load(total), product, flags=_FLAGS), total)
    sums = [builder.load(total) for total in totals]
    return sums[:parts], sums[parts:]


def _add_level(writer: _Writer, angular: int, S: list[Any], dS: list[Any], results: list[Any]) -> None:
    """Add one l to dE/dr and to the gradient: Y = Q(z) (x + i y)^m, differentiated factor by factor."""
    builder, w = writer.builder, writer
    radial, gx, gy, gz = (builder.load(result) for result in results)
    radial = w.fused(radial, dS[0], w.Q[angular, 0])
    if angular:
        gz = w.fused(gz, S[0], w.times(w.Q[angular, 1], w.constant(_SLOPE[angular, 0])))
    for m in range(1, angular + 1):
        (re, im), (below_re, below_im) = w.powers[m], w.powers[m - 1]
        S_re, S_im, dS_re, dS_im = S[2 * m - 1], S[2 * m], dS[2 * m - 1], dS[2 * m]
        Q = w.Q[angular, m]
        radial = w.fused(radial, Q, w.fused(w.times(dS_re, re), dS_im, im))
        if m < angular:
            slope = w.times(w.Q[angular, m + 1], w.constant(_SLOPE[angular, m]))
            gz = w.fused(gz, slope, w.fused(w.times(S_re, re), S_im, im))
        lower = w.times(Q, w.constant(m))
        if m == 1:
            gx, gy = w.fused(gx, lower, S_re), w.fused(gy, lower, S_im)
        else:
            gx = w.fused(gx, lower, w.fused(w.times(S_re, below_re), S_im, below_im))
            gy = w.fused(gy, lower, w.minus(w.times(S_im, below_re), w.times(S_re, below_im)))
    for result, value in zip(results, (radial, gx, gy, gz), strict=True):
        builder.store(value, result)
