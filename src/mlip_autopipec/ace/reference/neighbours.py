"""Reference evaluator: neighbours of an atom, their radial and angular functions, and the sums A over them."""

from __future__ import annotations

import numpy as np

from mlip_autopipec.ace.records import FloatArray, IntArray
from mlip_autopipec.ace.reference.records import Centre, Surroundings
from mlip_autopipec.ace.reference.tables import ReferenceTables
from mlip_autopipec.core.compiled.jit import inline, splice


@inline
def add_scaled(out: FloatArray, factor: float, row: FloatArray) -> None:
    for k in range(len(out)):
        out[k] += factor * row[k]


@inline
def add_product(out: FloatArray, factor: float, a: FloatArray, b: FloatArray, c: FloatArray) -> None:
    for k in range(len(out)):
        out[k] += factor * a[k] * b[k] * c[k]


@inline
def dot(a: FloatArray, b: FloatArray) -> float:
    total = 0.0
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@splice
def gather(
    t: ReferenceTables,
    positions: FloatArray,
    species: IntArray,
    candidates: IntArray,
    i: int,
    s: Surroundings,
    trouble: IntArray,
) -> int:
    """Collect the neighbours within the cutoff of their pair, species by species; return how many."""
    count = 0
    for nu in range(t.sizes[0]):
        pair = species[i] * t.sizes[0] + nu
        s.first[nu] = count
        for j in candidates:
            x = positions[j, 0] - positions[i, 0]
            y = positions[j, 1] - positions[i, 1]
            z = positions[j, 2] - positions[i, 2]
            square = x * x + y * y + z * z
            if species[j] != nu or square >= t.pairs[pair, 0] ** 2:
                continue
            r = np.sqrt(square)
            if r < t.pairs[pair, 1]:
                trouble[0] += 1
                continue
            s.rows[count] = j
            s.x[count], s.y[count], s.z[count], s.r[count] = x / r, y / r, z / r, r
            count += 1
    s.first[t.sizes[0]] = count
    return count


@splice
def angular_functions(t: ReferenceTables, count: int, s: Surroundings) -> None:
    """Q_lm(z) and (x + i y)^m of all neighbours; Y_lm is their product."""
    lmax = t.sizes[3]
    s.re[0, :count] = 1.0
    s.im[0, :count] = 0.0
    for m in range(lmax + 1):
        for k in range(count):
            s.re[m + 1, k] = s.re[m, k] * s.x[k] - s.im[m, k] * s.y[k]
            s.im[m + 1, k] = s.im[m, k] * s.x[k] + s.re[m, k] * s.y[k]
        s.Q[m, m, :count] = t.legendre[3, m, m]
        for angular in range(m + 1, lmax + 1):
            a, b = t.legendre[0, angular, m], t.legendre[1, angular, m]
            Q, last, before = s.Q[angular, m], s.Q[angular - 1, m], s.Q[max(m, angular - 2), m]
            for k in range(count):
                Q[k] = a * s.z[k] * last[k] - b * before[k]


@splice
def radial_functions(t: ReferenceTables, mu: int, s: Surroundings) -> None:
    """Interpolate all radial functions: cubic Hermite polynomials of the bin."""
    columns = t.values.shape[1]
    for nu in range(t.sizes[0]):
        pair = mu * t.sizes[0] + nu
        step = t.pairs[pair, 1]
        for k in range(s.first[nu], s.first[nu + 1]):
            position = s.r[k] / step
            q = min(int(position), t.spans[pair, 1] - 1)
            w = position - q
            row = t.spans[pair, 0] + q
            v1, w0, w1 = w * w * (3.0 - 2.0 * w), w * (1.0 - w) ** 2, w * w * (w - 1.0)
            dv1 = 6.0 * w * (1.0 - w) / step
            dw0, dw1 = (1.0 - w) * (1.0 - 3.0 * w) / step, w * (3.0 * w - 2.0) / step
            for c in range(columns):
                f0, rise = t.values[row, c], t.values[row + 1, c] - t.values[row, c]
                d0, d1 = t.slopes[row, c], t.slopes[row + 1, c]
                s.row[0, c] = f0 + v1 * rise + w0 * d0 + w1 * d1
                s.row[1, c] = dv1 * rise + dw0 * d0 + dw1 * d1
            for c in range(columns):
                s.value[c, k], s.slope[c, k] = s.row[0, c], s.row[1, c]


@splice
def accumulate(t: ReferenceTables, s: Surroundings, c: Centre) -> None:
    """A1[mu][k] = sum_j g_k, A[mu][l m][n] = sum_j R_nl Y_lm; negative m by conjugation."""
    K, N, lmax = t.sizes[1], t.sizes[2], t.sizes[3]
    for nu in range(t.sizes[0]):
        first, last = s.first[nu], s.first[nu + 1]
        Y_re, Y_im = s.work[0, first:last], s.work[1, first:last]
        for n in range(K):
            c.rank1[nu * K + n] = s.value[n, first:last].sum()
        for angular in range(lmax + 1):
            for m in range(angular + 1):
                sign, centre = 1.0 - 2.0 * (m % 2), angular * (angular + 1)
                Y_re[:] = 0.0
                Y_im[:] = 0.0
                Q = s.Q[angular, m, first:last]
                add_product(Y_re, 1.0, Q, s.re[m, first:last], s.re[0, first:last])
                add_product(Y_im, 1.0, Q, s.im[m, first:last], s.re[0, first:last])
                for n in range(N):
                    R = s.value[K + angular * N + n, first:last]
                    re, im = dot(R, Y_re), dot(R, Y_im)
                    c.base[nu, centre - m, n] = sign * complex(re, -im)
                    c.base[nu, centre + m, n] = complex(re, im)
