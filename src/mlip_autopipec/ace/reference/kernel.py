"""The reference evaluator: ACE as its formulas read, in plain loops. It is the truth that the fast path must equal.

doi:10.1103/PhysRevB.99.014104 (ACE), doi:10.1038/s41524-021-00559-9 (this parametrisation).
"""

from __future__ import annotations

import numpy as np

from mlip_autopipec.ace.embedding import embed, quintic_switch
from mlip_autopipec.ace.records import FloatArray, IntArray
from mlip_autopipec.ace.reference.neighbours import (
    accumulate,
    add_product,
    add_scaled,
    angular_functions,
    gather,
    radial_functions,
)
from mlip_autopipec.ace.reference.records import AtomResults, Centre, Surroundings
from mlip_autopipec.ace.reference.tables import ReferenceTables
from mlip_autopipec.core.compiled.jit import inline, kernel, splice

_ZBL = 2


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
        count = gather(t, positions, species, neighbours[first[i] : first[i + 1]], i, s, out.trouble)
        angular_functions(t, count, s)
        radial_functions(t, mu, s)
        accumulate(t, s, c)
        evaluate_terms(t, mu, c)
        energy = _densities(t, mu, c)
        if out.projections.shape[0]:
            project(t, mu, c.terms, out.projections[i])
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


@splice
def evaluate_terms(t: ReferenceTables, mu: int, c: Centre) -> None:
    first, n_rank1 = t.rank1_first[mu], t.rank1_first[mu + 1] - t.rank1_first[mu]
    for k in range(n_rank1):
        c.terms[k] = c.rank1[t.rank1[first + k]]
    start = t.product_first[mu]
    for k in range(t.product_first[mu + 1] - start):
        begin, end = t.factor_first[start + k], t.factor_first[start + k + 1]
        product = c.flat[t.factors[begin]] * c.flat[t.factors[begin + 1]]
        for f in range(begin + 2, end):
            product *= c.flat[t.factors[f]]
        c.terms[n_rank1 + k] = product.real


@splice
def _densities(t: ReferenceTables, mu: int, c: Centre) -> float:
    """rho_p = sum_t ctilde_tp term_t; return sum_p w_p F(rho_p) and keep w_p F'(rho_p)."""
    start = t.ctilde_first[mu]
    for p in range(len(c.rho)):
        rho = 0.0
        for k in range(t.ctilde_first[mu + 1] - start):
            rho += t.ctildes[start + k, p] * c.terms[k]
        c.rho[p], c.drho[p] = rho, 0.0
    energy = 0.0
    for p in range(int(t.embedding_shapes[mu, 1])):
        weight, exponent = t.embeddings[mu, 2 * p], t.embeddings[mu, 2 * p + 1]
        F, dF = embed(t.embedding_shapes[mu, 0], c.rho[p], exponent)
        energy += weight * F
        c.drho[p] = weight * dF
    return energy


@splice
def project(t: ReferenceTables, mu: int, terms: FloatArray, B: FloatArray) -> None:
    start = t.row_first[mu]
    for k in range(t.row_first[mu + 1] - start):
        total = 0.0
        for e in range(t.entry_first[start + k], t.entry_first[start + k + 1]):
            total += t.entry_weight[e] * terms[t.entry_term[e]]
        B[k] = total


@splice
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


@splice
def _adjoint(t: ReferenceTables, mu: int, c: Centre) -> None:
    """Return dE/dA1 and dE/dA, the latter folded onto m >= 0."""
    start = t.ctilde_first[mu]
    for k in range(t.ctilde_first[mu + 1] - start):
        weight = 0.0
        for p in range(len(c.drho)):
            weight += c.drho[p] * t.ctildes[start + k, p]
        c.dterms[k] = weight
    first, n_rank1 = t.rank1_first[mu], t.rank1_first[mu + 1] - t.rank1_first[mu]
    c.d_rank1[:] = 0.0
    for k in range(n_rank1):
        c.d_rank1[t.rank1[first + k]] += c.dterms[k]
    c.d_base[:] = 0.0
    start = t.product_first[mu]
    for k in range(t.product_first[mu + 1] - start):
        _adjoint_product(t.factors, t.factor_first[start + k], t.factor_first[start + k + 1], c.dterms[n_rank1 + k], c)
    N, lmax = t.sizes[2], t.sizes[3]
    for nu in range(t.sizes[0]):
        for angular in range(1, lmax + 1):
            for m in range(1, angular + 1):
                sign = 1.0 - 2.0 * (m % 2)
                for n in range(N):
                    mirror = c.d_base[nu, angular * (angular + 1) - m, n]
                    c.d_base[nu, angular * (angular + 1) + m, n] += sign * np.conj(mirror)


@inline
def _adjoint_product(factors: IntArray, begin: int, end: int, weight: float, c: Centre) -> None:
    """Add weight * d(product)/dA_f, the product of the other factors, for all factors."""
    A, dA, ahead = c.flat, c.d_flat, c.ahead
    i, j, rank = factors[begin], factors[begin + 1], end - begin
    left, right = weight * A[i], weight * A[j]
    if rank == 2:
        dA[i] += right
        dA[j] += left
    elif rank == 3:
        k = factors[begin + 2]
        dA[i] += right * A[k]
        dA[j] += left * A[k]
        dA[k] += left * A[j]
    elif rank == 4:
        k, m = factors[begin + 2], factors[begin + 3]
        first, last = left * A[j], A[k] * A[m]
        dA[i] += right * last
        dA[j] += left * last
        dA[k] += first * A[m]
        dA[m] += first * A[k]
    else:
        product = weight + 0.0j
        for f in range(begin, end):
            ahead[f - begin] = product
            product *= A[factors[f]]
        behind = 1.0 + 0.0j
        for f in range(end - 1, begin - 1, -1):
            dA[factors[f]] += ahead[f - begin] * behind
            behind *= A[factors[f]]


@splice
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
        add_scaled(radial[first:last], dcore, s.slope[-1, first:last])
        for n in range(K):
            if c.d_rank1[nu * K + n] != 0.0:
                add_scaled(radial[first:last], c.d_rank1[nu * K + n], s.slope[n, first:last])
        _angular_gradient(t, nu, first, last, s, c)
    if nearest >= 0:
        radial[nearest] += dnearest
    own_x, own_y, own_z = 0.0, 0.0, 0.0
    for k in range(s.first[t.sizes[0]]):
        x, y, z, r = s.x[k], s.y[k], s.z[k], s.r[k]
        # Y is a polynomial in x, y, z; its gradient on the sphere has no radial part.
        along = radial[k] - (gx[k] * x + gy[k] * y + gz[k] * z) / r
        gx[k], gy[k], gz[k] = gx[k] / r + x * along, gy[k] / r + y * along, gz[k] / r + z * along
    for k in range(s.first[t.sizes[0]]):
        j = s.rows[k]
        out.forces[j, 0] -= gx[k]
        out.forces[j, 1] -= gy[k]
        out.forces[j, 2] -= gz[k]
        own_x, own_y, own_z = own_x + gx[k], own_y + gy[k], own_z + gz[k]
    out.forces[i, 0] += own_x
    out.forces[i, 1] += own_y
    out.forces[i, 2] += own_z
    _add_virial(s, s.first[t.sizes[0]], out.virial)


@inline
def _add_virial(s: Surroundings, count: int, virial: FloatArray) -> None:
    """Add sum r (x) f over the neighbours, whose f stands in `work`."""
    for a in range(3):
        f, x, y, z = s.work[a + 1], 0.0, 0.0, 0.0
        for k in range(count):
            x += s.x[k] * s.r[k] * f[k]
            y += s.y[k] * s.r[k] * f[k]
            z += s.z[k] * s.r[k] * f[k]
        virial[a] += x
        virial[3 + a] += y
        virial[6 + a] += z


@splice
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
                w = c.d_base[nu, angular * (angular + 1) + m, n]
                R, dR = s.value[K + angular * N + n, first:last], s.slope[K + angular * N + n, first:last]
                add_scaled(S_re, w.real, R)
                add_scaled(dS_re, w.real, dR)
                if m > 0:
                    add_scaled(S_im, w.imag, R)
                    add_scaled(dS_im, w.imag, dR)
            Q, dQ = s.Q[angular, m, first:last], s.Q[angular, m + 1, first:last]
            re, im, slope = s.re[m, first:last], s.im[m, first:last], t.legendre[2, angular, m]
            add_product(radial, 1.0, Q, dS_re, re)
            add_product(gz, slope, dQ, S_re, re)
            if m > 0:
                add_product(radial, -1.0, Q, dS_im, im)
                add_product(gz, -slope, dQ, S_im, im)
                re, im = s.re[m - 1, first:last], s.im[m - 1, first:last]
                add_product(gx, m, Q, S_re, re)
                add_product(gx, -m, Q, S_im, im)
                add_product(gy, -m, Q, S_re, im)
                add_product(gy, -m, Q, S_im, re)
