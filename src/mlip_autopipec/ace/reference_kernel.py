"""The reference evaluator: ACE as its formulas read, in plain loops. It is the truth that the fast path must equal.

doi:10.1103/PhysRevB.99.014104 (ACE), doi:10.1038/s41524-021-00559-9 (this parametrisation).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlip_autopipec.ace.embedding import embed, quintic_switch
from mlip_autopipec.ace.harmonics import legendre
from mlip_autopipec.ace.jit import inline, kernel
from mlip_autopipec.ace.records import FloatArray, IntArray
from mlip_autopipec.ace.reference_tables import ReferenceTables

ComplexArray = NDArray[np.complex128]
_ZBL = 2


class Surroundings(NamedTuple):
    """Neighbours of one atom within the cutoff, and what is known about them.

    Attributes
    ----------
    rows, species : (n_max,) row in the frame, species
    bond : (n_max, 4) unit vector from the centre, distance
    value, slope : (n_max, columns) radial functions and their derivatives
    harmonics : (n_max, lmax + 2, lmax + 2) Q_lm(z)
    powers : (n_max, lmax + 2) (x + i y)^m
    """

    rows: IntArray
    species: IntArray
    bond: FloatArray
    value: FloatArray
    slope: FloatArray
    harmonics: FloatArray
    powers: ComplexArray


class Centre(NamedTuple):
    """Quantities of one atom.

    Attributes
    ----------
    A1 : (n_species * K,) ; dA1 the derivative of the energy with respect to it
    A : (n_species, (lmax + 1)^2, N) all m ; dA likewise; flat_A and flat_dA are the same numbers in one row
    terms, dterms : (largest number of terms,)
    rho, drho : (ndensity,) densities; w F'(rho)
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
        _radial(t, mu, count, s)
        _accumulate(t, count, s, c)
        _evaluate_terms(t, mu, c)
        energy = _densities(t, mu, c)
        if out.projections.shape[0]:
            _project(t, mu, c.terms, out.projections[i])
        scale, dcore, nearest, dnearest = 1.0, 0.0, -1, 0.0
        if t.has_core:
            energy, scale, dcore, nearest, dnearest = _core(t, mu, count, energy, s)
        out.energies[i] = energy + t.isolated[mu]
        out.scale[i] = scale
        for p in range(len(c.rho)):
            out.rho[i, p], out.drho[i, p] = c.rho[p], c.drho[p]
            c.drho[p] *= scale
        _adjoint(t, mu, c)
        _forces(t, count, i, dcore, nearest, dnearest, s, c, out)


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
    """Collect the neighbours within the cutoff of their pair; return how many."""
    n_species, lmax = t.sizes[0], t.sizes[3]
    count = 0
    for j in candidates:
        pair = species[i] * n_species + species[j]
        x = positions[j, 0] - positions[i, 0]
        y = positions[j, 1] - positions[i, 1]
        z = positions[j, 2] - positions[i, 2]
        square = x * x + y * y + z * z
        if square >= t.pairs[pair, 0] ** 2:
            continue
        r = np.sqrt(square)
        if r < t.pairs[pair, 1]:
            trouble[0] += 1
            continue
        s.rows[count], s.species[count] = j, species[j]
        s.bond[count, 0], s.bond[count, 1], s.bond[count, 2], s.bond[count, 3] = x / r, y / r, z / r, r
        legendre(z / r, lmax, t.legendre[0], t.legendre[1], t.legendre[3], s.harmonics[count])
        power, factor = 1.0 + 0.0j, complex(x / r, y / r)
        for m in range(lmax + 1):
            s.powers[count, m] = power
            power *= factor
        count += 1
    return count


@inline
def _radial(t: ReferenceTables, mu: int, count: int, s: Surroundings) -> None:
    """Interpolate all radial functions: cubic Hermite polynomials of the bin."""
    for k in range(count):
        pair = mu * t.sizes[0] + s.species[k]
        step = t.pairs[pair, 1]
        position = s.bond[k, 3] / step
        q = min(int(position), t.spans[pair, 1] - 1)
        w = position - q
        row = t.spans[pair, 0] + q
        f0, f1, d0, d1 = t.values[row], t.values[row + 1], t.slopes[row], t.slopes[row + 1]
        value, slope = s.value[k], s.slope[k]
        v1 = w * w * (3.0 - 2.0 * w)
        v0 = 1.0 - v1
        w0, w1 = w * (1.0 - w) ** 2, w * w * (w - 1.0)
        v2 = 6.0 * w * (1.0 - w) / step
        u0, u1 = (1.0 - w) * (1.0 - 3.0 * w) / step, w * (3.0 * w - 2.0) / step
        for column in range(len(value)):
            value[column] = v0 * f0[column] + v1 * f1[column] + w0 * d0[column] + w1 * d1[column]
            slope[column] = v2 * (f1[column] - f0[column]) + u0 * d0[column] + u1 * d1[column]


@inline
def _accumulate(t: ReferenceTables, count: int, s: Surroundings, c: Centre) -> None:
    """A1[mu][k] = sum_j g_k, A[mu][l m][n] = sum_j R_nl Y_lm; negative m by conjugation."""
    K, N, lmax = t.sizes[1], t.sizes[2], t.sizes[3]
    c.A1[:] = 0.0
    c.A[:] = 0.0
    for k in range(count):
        mu = s.species[k]
        for n in range(K):
            c.A1[mu * K + n] += s.value[k, n]
        for angular in range(lmax + 1):
            for m in range(angular + 1):
                Y = s.harmonics[k, angular, m] * s.powers[k, m]
                A = c.A[mu, angular * (angular + 1) + m]
                for n in range(N):
                    A[n] += s.value[k, K + angular * N + n] * Y
    for mu in range(t.sizes[0]):
        for angular in range(1, lmax + 1):
            for m in range(1, angular + 1):
                sign = 1.0 - 2.0 * (m % 2)
                for n in range(N):
                    c.A[mu, angular * (angular + 1) - m, n] = sign * np.conj(c.A[mu, angular * (angular + 1) + m, n])


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
def _core(
    t: ReferenceTables, mu: int, count: int, energy: float, s: Surroundings
) -> tuple[float, float, float, int, float]:
    """Return the energy with core repulsion, dE/dE_ace, dE/drho_core, and the nearest neighbour with dE/dr of its switch."""
    repulsion = 0.0
    for k in range(count):
        repulsion += s.value[k, -1]
    if t.inner != _ZBL:
        scale, dscale = quintic_switch(repulsion, t.embedding_shapes[mu, 2], t.embedding_shapes[mu, 3])
        return energy * scale + repulsion, scale, energy * dscale + 1.0, -1, 0.0
    nearest, closest = -1, np.inf
    for k in range(count):
        pair = mu * t.sizes[0] + s.species[k]
        x = s.bond[k, 3] - (t.pairs[pair, 2] - t.pairs[pair, 3])
        if x < closest:
            nearest, closest = k, x
    if nearest < 0:
        return energy, 1.0, 0.0, -1, 0.0
    width = t.pairs[mu * t.sizes[0] + s.species[nearest], 3]
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
    A, dA = c.flat_A, c.flat_dA
    start = t.product_first[mu]
    for k in range(t.product_first[mu + 1] - start):
        begin, end = t.factor_first[start + k], t.factor_first[start + k + 1]
        for f in range(begin, end):
            others = c.dterms[n_rank1 + k] + 0.0j
            for g in range(begin, end):
                if g != f:
                    others *= A[t.factors[g]]
            dA[t.factors[f]] += others
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
    count: int,
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
    for k in range(count):
        x, y, z, r = s.bond[k, 0], s.bond[k, 1], s.bond[k, 2], s.bond[k, 3]
        radial, gx, gy, gz = _angular_gradient(t, k, s, c)
        for n in range(K):
            radial += c.dA1[s.species[k] * K + n] * s.slope[k, n]
        radial += dcore * s.slope[k, -1]
        if k == nearest:
            radial += dnearest
        # Y is a polynomial in x, y, z; its gradient on the sphere has no radial part.
        along = gx * x + gy * y + gz * z
        force = ((gx - x * along) / r + x * radial, (gy - y * along) / r + y * radial, (gz - z * along) / r + z * radial)
        for a in range(3):
            out.forces[i, a] += force[a]
            out.forces[s.rows[k], a] -= force[a]
            for b in range(3):
                out.virial[3 * a + b] += s.bond[k, a] * r * force[b]


@inline
def _angular_gradient(t: ReferenceTables, k: int, s: Surroundings, c: Centre) -> tuple[float, float, float, float]:
    """Return sum dE/dA * (R' Y) and the gradient of sum dE/dA * R Y with respect to x, y, z of the unit vector."""
    K, N, lmax = t.sizes[1], t.sizes[2], t.sizes[3]
    radial, gx, gy, gz = 0.0, 0.0, 0.0, 0.0
    Q = s.harmonics[k]
    for angular in range(lmax + 1):
        for m in range(angular + 1):
            dA = c.dA[s.species[k], angular * (angular + 1) + m]
            S, dS = 0.0j, 0.0j
            for n in range(N):
                S += dA[n] * s.value[k, K + angular * N + n]
                dS += dA[n] * s.slope[k, K + angular * N + n]
            power = s.powers[k, m]
            radial += (dS * power).real * Q[angular, m]
            gz += (S * power).real * t.legendre[2, angular, m] * Q[angular, m + 1]
            if m > 0:
                lower = m * Q[angular, m] * S * s.powers[k, m - 1]
                gx += lower.real
                gy -= lower.imag
    return radial, gx, gy, gz
