"""The reference evaluator: ACE as its formulas read, in plain loops. It is the truth that the fast path must equal.

doi:10.1103/PhysRevB.99.014104 (ACE), doi:10.1038/s41524-021-00559-9 (this parametrisation).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlip_autopipec.ace.embedding import embed, quintic_switch
from mlip_autopipec.ace.jit import inline, kernel
from mlip_autopipec.ace.records import FloatArray, IntArray
from mlip_autopipec.ace.reference_tables import ReferenceTables

ComplexArray = NDArray[np.complex128]
_ZBL = 2


class Surroundings(NamedTuple):
    """Neighbours of one atom within the cutoff, sorted by species, and what is known about them.

    Arrays run over neighbours last, so that the compiler vectorises the plain loops over them.

    Attributes
    ----------
    first : (n_species + 1,) first neighbour of each species
    rows : (n_max,) row in the frame
    x, y, z, r : (n_max,) unit vector from the centre, distance
    row : (2, columns) interpolated values and derivatives of one neighbour
    value, slope : (columns, n_max) radial functions and their derivatives
    Q : (lmax + 2, lmax + 2, n_max) Q_lm(z)
    re, im : (lmax + 2, n_max) (x + i y)^m
    work : (8, n_max) sums of the force loop
    """

    first: IntArray
    rows: IntArray
    x: FloatArray
    y: FloatArray
    z: FloatArray
    r: FloatArray
    row: FloatArray
    value: FloatArray
    slope: FloatArray
    Q: FloatArray
    re: FloatArray
    im: FloatArray
    work: FloatArray


class Centre(NamedTuple):
    """Quantities of one atom.

    Attributes
    ----------
    A1 : (n_species * K,) ; dA1 the derivative of the energy with respect to it
    A : (n_species, (lmax + 1)^2, N) all m ; dA likewise; flat_A and flat_dA are the same numbers in one row
    terms, dterms : (largest number of terms,)
    rho, drho : (ndensity,) densities; w F'(rho)
    ahead : (largest rank,) products of the factors before each
    """

    A1: FloatArray
    dA1: FloatArray
    A: ComplexArray
    dA: ComplexArray
    flat_A: ComplexArray
    flat_dA: ComplexArray
    terms: FloatArray
    dterms: FloatArray
    rho: FloatArray
    drho: FloatArray
    ahead: ComplexArray


class AtomResults(NamedTuple):
    """Per-atom results; projections of zero rows are not filled.

    Attributes
    ----------
    energies : (N,)
    forces : (M, 3), also of ghost rows
    virial : (9,) sum r (x) dE/dr, row-major
    rho, drho : (N, ndensity) densities and w F'(rho)
    scale : (N,) dE/dE_ace, below 1 where the core repulsion takes over
    projections : (N, n_max)
    trouble : (1,) number of pairs closer than one spline bin
    """

    energies: FloatArray
    forces: FloatArray
    virial: FloatArray
    rho: FloatArray
    drho: FloatArray
    scale: FloatArray
    projections: FloatArray
    trouble: IntArray


@kernel
def evaluate_atoms(
    t: ReferenceTables,
    positions: FloatArray,
    species: IntArray,
    first: IntArray,
    neighbours: IntArray,
    start: int,
    stop: int,
    s: Surroundings,
    c: Centre,
    out: AtomResults,
) -> None:
    """Evaluate atoms start..stop and add their contributions to `out`; `s` and `c` are scratch."""
    for i in range(start, stop):
        mu = species[i]
        count = _gather(t, positions, species, neighbours[first[i] : first[i + 1]], i, s, out.trouble)
        _angular(t, count, s)
        _radial(t, mu, s)
        _accumulate(t, s, c)
        _evaluate_terms(t, mu, c)
        energy = _densities(t, mu, c)
        if out.projections.shape[0]:
            _project(t, mu, c.terms, out.projections[i])
        scale, dcore, nearest, dnearest = 1.0, 0.0, -1, 0.0
        if t.has_core:
            energy, scale, dcore, nearest, dnearest = _core(t, mu, energy, s)
        out.energies[i] = energy + t.isolated[mu]
        out.scale[i] = scale
        for p in range(len(c.rho)):
            out.rho[i, p], out.drho[i, p] = c.rho[p], c.drho[p]
            c.drho[p] *= scale
        _adjoint(t, mu, c)
        _forces(t, i, dcore, nearest, dnearest, s, c, out)


@inline
def _gather(
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


@inline
def _add_scaled(out: FloatArray, factor: float, row: FloatArray) -> None:
    for k in range(len(out)):
        out[k] += factor * row[k]


@inline
def _add_product(out: FloatArray, factor: float, a: FloatArray, b: FloatArray, c: FloatArray) -> None:
    for k in range(len(out)):
        out[k] += factor * a[k] * b[k] * c[k]


@inline
def _dot(a: FloatArray, b: FloatArray) -> float:
    total = 0.0
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@inline
def _angular(t: ReferenceTables, count: int, s: Surroundings) -> None:
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


@inline
def _radial(t: ReferenceTables, mu: int, s: Surroundings) -> None:
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


@inline
def _accumulate(t: ReferenceTables, s: Surroundings, c: Centre) -> None:
    """A1[mu][k] = sum_j g_k, A[mu][l m][n] = sum_j R_nl Y_lm; negative m by conjugation."""
    K, N, lmax = t.sizes[1], t.sizes[2], t.sizes[3]
    for nu in range(t.sizes[0]):
        first, last = s.first[nu], s.first[nu + 1]
        Y_re, Y_im = s.work[0, first:last], s.work[1, first:last]
        for n in range(K):
            c.A1[nu * K + n] = s.value[n, first:last].sum()
        for angular in range(lmax + 1):
            for m in range(angular + 1):
                sign, centre = 1.0 - 2.0 * (m % 2), angular * (angular + 1)
                Y_re[:] = 0.0
                Y_im[:] = 0.0
                Q = s.Q[angular, m, first:last]
                _add_product(Y_re, 1.0, Q, s.re[m, first:last], s.re[0, first:last])
                _add_product(Y_im, 1.0, Q, s.im[m, first:last], s.re[0, first:last])
                for n in range(N):
                    R = s.value[K + angular * N + n, first:last]
                    re, im = _dot(R, Y_re), _dot(R, Y_im)
                    c.A[nu, centre - m, n] = sign * complex(re, -im)
                    c.A[nu, centre + m, n] = complex(re, im)


@inline
def _evaluate_terms(t: ReferenceTables, mu: int, c: Centre) -> None:
    first, n_rank1 = t.rank1_first[mu], t.rank1_first[mu + 1] - t.rank1_first[mu]
    for k in range(n_rank1):
        c.terms[k] = c.A1[t.rank1[first + k]]
    A = c.flat_A
    start = t.product_first[mu]
    for k in range(t.product_first[mu + 1] - start):
        product = 1.0 + 0.0j
        for f in range(t.factor_first[start + k], t.factor_first[start + k + 1]):
            product *= A[t.factors[f]]
        c.terms[n_rank1 + k] = product.real


@inline
def _densities(t: ReferenceTables, mu: int, c: Centre) -> float:
    """rho_p = sum_t ctilde_tp term_t; return sum_p w_p F(rho_p) and keep w_p F'(rho_p)."""
    start = t.ctilde_first[mu]
    c.rho[:] = 0.0
    c.drho[:] = 0.0
    for k in range(t.ctilde_first[mu + 1] - start):
        for p in range(len(c.rho)):
            c.rho[p] += t.ctildes[start + k, p] * c.terms[k]
    energy = 0.0
    for p in range(int(t.embedding_shapes[mu, 1])):
        weight, exponent = t.embeddings[mu, 2 * p], t.embeddings[mu, 2 * p + 1]
        F, dF = embed(t.embedding_shapes[mu, 0], c.rho[p], exponent)
        energy += weight * F
        c.drho[p] = weight * dF
    return energy


@inline
def _project(t: ReferenceTables, mu: int, terms: FloatArray, B: FloatArray) -> None:
    start = t.row_first[mu]
    for k in range(t.row_first[mu + 1] - start):
        total = 0.0
        for e in range(t.entry_first[start + k], t.entry_first[start + k + 1]):
            total += t.entry_weight[e] * terms[t.entry_term[e]]
        B[k] = total


@inline
def _core(t: ReferenceTables, mu: int, energy: float, s: Surroundings) -> tuple[float, float, float, int, float]:
    """Return energy with core repulsion, dE/dE_ace, dE/drho_core, the nearest neighbour and dE/dr of its switch."""
    repulsion = 0.0
    for k in range(s.first[t.sizes[0]]):
        repulsion += s.value[-1, k]
    if t.inner != _ZBL:
        scale, dscale = quintic_switch(repulsion, t.embedding_shapes[mu, 2], t.embedding_shapes[mu, 3])
        return energy * scale + repulsion, scale, energy * dscale + 1.0, -1, 0.0
    nearest, closest, width = -1, np.inf, 0.0
    for nu in range(t.sizes[0]):
        pair = mu * t.sizes[0] + nu
        for k in range(s.first[nu], s.first[nu + 1]):
            x = s.r[k] - (t.pairs[pair, 2] - t.pairs[pair, 3])
            if x < closest:
                nearest, closest, width = k, x, t.pairs[pair, 3]
    if nearest < 0:
        return energy, 1.0, 0.0, -1, 0.0
    w, dw = quintic_switch(width - closest, width, width)
    return w * energy + (1.0 - w) * repulsion, w, 1.0 - w, nearest, -dw * (energy - repulsion)


@inline
def _adjoint(t: ReferenceTables, mu: int, c: Centre) -> None:
    """Return dE/dA1 and dE/dA, the latter folded onto m >= 0."""
    start = t.ctilde_first[mu]
    for k in range(t.ctilde_first[mu + 1] - start):
        c.dterms[k] = 0.0
        for p in range(len(c.drho)):
            c.dterms[k] += c.drho[p] * t.ctildes[start + k, p]
    first, n_rank1 = t.rank1_first[mu], t.rank1_first[mu + 1] - t.rank1_first[mu]
    c.dA1[:] = 0.0
    for k in range(n_rank1):
        c.dA1[t.rank1[first + k]] += c.dterms[k]
    c.dA[:] = 0.0
    A, dA, ahead = c.flat_A, c.flat_dA, c.ahead
    start = t.product_first[mu]
    for k in range(t.product_first[mu + 1] - start):
        begin, end = t.factor_first[start + k], t.factor_first[start + k + 1]
        # d(product)/dA_f = factors before f times factors behind it
        product = c.dterms[n_rank1 + k] + 0.0j
        for f in range(begin, end):
            ahead[f - begin] = product
            product *= A[t.factors[f]]
        behind = 1.0 + 0.0j
        for f in range(end - 1, begin - 1, -1):
            dA[t.factors[f]] += ahead[f - begin] * behind
            behind *= A[t.factors[f]]
    N, lmax = t.sizes[2], t.sizes[3]
    for nu in range(t.sizes[0]):
        for angular in range(1, lmax + 1):
            for m in range(1, angular + 1):
                sign = 1.0 - 2.0 * (m % 2)
                for n in range(N):
                    mirror = c.dA[nu, angular * (angular + 1) - m, n]
                    c.dA[nu, angular * (angular + 1) + m, n] += sign * np.conj(mirror)


@inline
def _forces(
    t: ReferenceTables,
    i: int,
    dcore: float,
    nearest: int,
    dnearest: float,
    s: Surroundings,
    c: Centre,
    out: AtomResults,
) -> None:
    """Add -dE/dr_ij to neighbour j and +dE/dr_ij to atom i."""
    K = t.sizes[1]
    radial, gx, gy, gz = s.work[0], s.work[1], s.work[2], s.work[3]
    s.work[:4, : s.first[t.sizes[0]]] = 0.0
    for nu in range(t.sizes[0]):
        first, last = s.first[nu], s.first[nu + 1]
        _add_scaled(radial[first:last], dcore, s.slope[-1, first:last])
        for n in range(K):
            if c.dA1[nu * K + n] != 0.0:
                _add_scaled(radial[first:last], c.dA1[nu * K + n], s.slope[n, first:last])
        _angular_gradient(t, nu, first, last, s, c)
    if nearest >= 0:
        radial[nearest] += dnearest
    for k in range(s.first[t.sizes[0]]):
        x, y, z, r = s.x[k], s.y[k], s.z[k], s.r[k]
        # Y is a polynomial in x, y, z; its gradient on the sphere has no radial part.
        along = radial[k] - (gx[k] * x + gy[k] * y + gz[k] * z) / r
        fx, fy, fz = gx[k] / r + x * along, gy[k] / r + y * along, gz[k] / r + z * along
        j = s.rows[k]
        out.forces[i, 0], out.forces[i, 1], out.forces[i, 2] = (
            out.forces[i, 0] + fx,
            out.forces[i, 1] + fy,
            out.forces[i, 2] + fz,
        )
        out.forces[j, 0] -= fx
        out.forces[j, 1] -= fy
        out.forces[j, 2] -= fz
        for a, f in enumerate((fx, fy, fz)):
            out.virial[a] += x * r * f
            out.virial[3 + a] += y * r * f
            out.virial[6 + a] += z * r * f


@inline
def _angular_gradient(t: ReferenceTables, nu: int, first: int, last: int, s: Surroundings, c: Centre) -> None:
    """Add Re sum dE/dA R' Y, and the gradient of Re sum dE/dA R Y with respect to x, y, z of the unit vector."""
    K, N, lmax = t.sizes[1], t.sizes[2], t.sizes[3]
    radial, gx, gy, gz = s.work[0, first:last], s.work[1, first:last], s.work[2, first:last], s.work[3, first:last]
    S_re, S_im, dS_re, dS_im = (
        s.work[4, first:last],
        s.work[5, first:last],
        s.work[6, first:last],
        s.work[7, first:last],
    )
    for angular in range(lmax + 1):
        for m in range(angular + 1):
            s.work[4:, first:last] = 0.0
            for n in range(N):
                w = c.dA[nu, angular * (angular + 1) + m, n]
                R, dR = s.value[K + angular * N + n, first:last], s.slope[K + angular * N + n, first:last]
                _add_scaled(S_re, w.real, R)
                _add_scaled(S_im, w.imag, R)
                _add_scaled(dS_re, w.real, dR)
                _add_scaled(dS_im, w.imag, dR)
            Q, dQ = s.Q[angular, m, first:last], s.Q[angular, m + 1, first:last]
            re, im, slope = s.re[m, first:last], s.im[m, first:last], t.legendre[2, angular, m]
            _add_product(radial, 1.0, Q, dS_re, re)
            _add_product(radial, -1.0, Q, dS_im, im)
            _add_product(gz, slope, dQ, S_re, re)
            _add_product(gz, -slope, dQ, S_im, im)
            if m > 0:
                re, im = s.re[m - 1, first:last], s.im[m - 1, first:last]
                _add_product(gx, m, Q, S_re, re)
                _add_product(gx, -m, Q, S_im, im)
                _add_product(gy, -m, Q, S_re, im)
                _add_product(gy, -m, Q, S_im, re)
