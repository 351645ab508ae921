"""Derivatives of B-projections with respect to positions: the force rows of a linear fit, in plain loops."""

from __future__ import annotations

from typing import NamedTuple

from mlip_autopipec.ace.records import FloatArray, IntArray
from mlip_autopipec.ace.reference.neighbours import (
    accumulate,
    add_product,
    add_scaled,
    angular_functions,
    gather,
    radial_functions,
)
from mlip_autopipec.ace.reference.records import Centre, Surroundings
from mlip_autopipec.ace.reference.tables import ReferenceTables
from mlip_autopipec.core.compiled.jit import inline, kernel, splice


class DesignRows(NamedTuple):
    """Rows being filled, per B-function of all species one after the other.

    Attributes
    ----------
    projections : (N, largest number of functions)
    forces : (K, 3, N) minus the derivative of the sum of projections
    virial : (K, 9) sum r (x) dB/dr
    trouble : (1,) number of pairs closer than one spline bin
    """

    projections: FloatArray
    forces: FloatArray
    virial: FloatArray
    trouble: IntArray


class Gradients(NamedTuple):
    """Scratch: gradients of the sums A of one atom.

    Variable 2 ((angular (angular + 1) / 2 + m) N + n) is Re A[n][l][m], the next one Im A; m >= 0.

    Attributes
    ----------
    variables : (n_variables, 3, n_max) with respect to the position of each neighbour (of any species)
    weights : (n_species, n_variables) derivative of one function; zero between functions
    touched : (2, most) species and variable of the weights that are not zero
    row : (3, n_max) derivative of one function with respect to the neighbours' positions
    """

    variables: FloatArray
    weights: FloatArray
    touched: IntArray
    row: FloatArray


@kernel
def design_rows(
    t: ReferenceTables,
    positions: FloatArray,
    species: IntArray,
    owners: IntArray,
    first: IntArray,
    neighbours: IntArray,
    s: Surroundings,
    c: Centre,
    g: Gradients,
    out: DesignRows,
) -> None:
    """Fill the rows of all atoms; `s`, `c` and `g` are scratch."""
    for i in range(len(first) - 1):
        mu = species[i]
        count = gather(t, positions, species, neighbours[first[i] : first[i + 1]], i, s, out.trouble)
        angular_functions(t, count, s)
        radial_functions(t, mu, s)
        accumulate(t, s, c)
        for nu in range(t.sizes[0]):
            _gradients(t, s.first[nu], s.first[nu + 1], s, g)
        n_rank1 = t.rank1_first[mu + 1] - t.rank1_first[mu]
        for k in range(t.row_first[mu], t.row_first[mu + 1]):
            g.row[:, :count] = 0.0
            value = 0.0
            for e in range(t.entry_first[k], t.entry_first[k + 1]):
                term = t.entry_term[e]
                if term < n_rank1:
                    value += _rank1(t, t.rank1[t.rank1_first[mu] + term], t.entry_weight[e], s, c, g)
                else:
                    value += _product(t, t.product_first[mu] + term - n_rank1, t.entry_weight[e], c, g)
            out.projections[i, k - t.row_first[mu]] = value
            _contract(s, g)
            _scatter(i, k, count, owners, s, g, out)


@splice
def _gradients(t: ReferenceTables, first: int, last: int, s: Surroundings, g: Gradients) -> None:
    """d(R Y)/dr of the neighbours of one species: R' Y u + R (grad Y - u (u . grad Y)) / r."""
    K, N, lmax = t.sizes[1], t.sizes[2], t.sizes[3]
    x, y, z, r = s.x[first:last], s.y[first:last], s.z[first:last], s.r[first:last]
    for angular in range(lmax + 1):
        for m in range(angular + 1):
            Q, dQ = s.Q[angular, m, first:last], s.Q[angular, m + 1, first:last]
            below, slope = max(m - 1, 0), t.legendre[2, angular, m]
            for part in range(2):
                power = s.re[m, first:last] if part == 0 else s.im[m, first:last]
                # d/dx and d/dy of (x + i y)^m
                px = s.re[below, first:last] if part == 0 else s.im[below, first:last]
                py = s.im[below, first:last] if part == 0 else s.re[below, first:last]
                sign = -1.0 if part == 0 else 1.0
                for n in range(N):
                    R = s.value[K + angular * N + n, first:last]
                    dR = s.slope[K + angular * N + n, first:last]
                    out = g.variables[2 * ((angular * (angular + 1) // 2 + m) * N + n) + part, :, first:last]
                    for k in range(len(R)):
                        gx, gy, gz = m * Q[k] * px[k], sign * m * Q[k] * py[k], slope * dQ[k] * power[k]
                        turn = R[k] / r[k]
                        along = dR[k] * Q[k] * power[k] - turn * (gx * x[k] + gy * y[k] + gz * z[k])
                        out[0, k] = turn * gx + along * x[k]
                        out[1, k] = turn * gy + along * y[k]
                        out[2, k] = turn * gz + along * z[k]


@splice
def _rank1(t: ReferenceTables, index: int, weight: float, s: Surroundings, c: Centre, g: Gradients) -> float:
    """Add weight * dA1/dr to the row; return weight * A1."""
    nu, n = index // t.sizes[1], index % t.sizes[1]
    first, last = s.first[nu], s.first[nu + 1]
    dg, ones = s.slope[n, first:last], s.re[0, first:last]
    add_product(g.row[0, first:last], weight, dg, s.x[first:last], ones)
    add_product(g.row[1, first:last], weight, dg, s.y[first:last], ones)
    add_product(g.row[2, first:last], weight, dg, s.z[first:last], ones)
    return weight * c.rank1[index]


@splice
def _product(t: ReferenceTables, product: int, weight: float, c: Centre, g: Gradients) -> float:
    """Add weight * d(Re prod A)/d(variables) to the weights; return weight * Re prod A."""
    begin, end = t.factor_first[product], t.factor_first[product + 1]
    value = weight + 0.0j
    for f in range(begin, end):
        c.ahead[f - begin] = value
        value *= c.flat[t.factors[f]]
    behind = 1.0 + 0.0j
    for f in range(end - 1, begin - 1, -1):
        others = c.ahead[f - begin] * behind
        behind *= c.flat[t.factors[f]]
        _touch(t, t.factors[f], others, g)
    return value.real


@inline
def _touch(t: ReferenceTables, factor: int, others: complex, g: Gradients) -> None:
    """Add d Re(others * A) to the weights of Re A and Im A; A_l,-m = (-1)^m conj(A_lm)."""
    N, size = t.sizes[2], (t.sizes[3] + 1) ** 2
    nu, n, lm = factor // (N * size), factor % N, (factor // N) % size
    angular = int(lm**0.5)
    m = lm - angular * (angular + 1)
    sign = -1.0 if m < 0 and m % 2 else 1.0
    re, im = sign * others.real, -sign * others.imag
    if m < 0:
        m, im = -m, -im
    variable = 2 * ((angular * (angular + 1) // 2 + m) * N + n)
    for part in range(2):
        if g.weights[nu, variable + part] == 0.0:
            count = g.touched[0, 0] + 1
            g.touched[0, 0] = count
            g.touched[0, count], g.touched[1, count] = nu, variable + part
    g.weights[nu, variable] += re
    g.weights[nu, variable + 1] += im


@splice
def _contract(s: Surroundings, g: Gradients) -> None:
    """row = sum of weights * gradients; the weights are zero again afterwards."""
    for e in range(1, g.touched[0, 0] + 1):
        nu, variable = g.touched[0, e], g.touched[1, e]
        weight = g.weights[nu, variable]
        if weight != 0.0:
            first, last = s.first[nu], s.first[nu + 1]
            for a in range(3):
                add_scaled(g.row[a, first:last], weight, g.variables[variable, a, first:last])
            g.weights[nu, variable] = 0.0
    g.touched[0, 0] = 0


@splice
def _scatter(
    i: int, function: int, count: int, owners: IntArray, s: Surroundings, g: Gradients, out: DesignRows
) -> None:
    for a in range(3):
        total = 0.0
        for k in range(count):
            total += g.row[a, k]
            out.forces[function, a, owners[s.rows[k]]] -= g.row[a, k]
        out.forces[function, a, i] += total
        x, y, z = 0.0, 0.0, 0.0
        for k in range(count):
            x += s.x[k] * s.r[k] * g.row[a, k]
            y += s.y[k] * s.r[k] * g.row[a, k]
            z += s.z[k] * s.r[k] * g.row[a, k]
        out.virial[function, a] += x
        out.virial[function, 3 + a] += y
        out.virial[function, 6 + a] += z
