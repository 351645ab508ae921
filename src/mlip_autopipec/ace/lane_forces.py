"""Fifth stage: forces on centres and neighbours; lanes = neighbours."""

from __future__ import annotations

from mlip_autopipec.ace.jit import inline
from mlip_autopipec.ace.lane_moments import write_legendre, write_powers
from mlip_autopipec.ace.lanes import WIDTH, Lanes, load, load_row, rows_of_columns, spread, store, total
from mlip_autopipec.ace.program import Program
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.scratch import GEOMETRY_ROWS, Scratch


@inline
def scatter_forces(t: Program, s: Scratch, mu: int, centre: int, i: int, forces: FloatArray) -> None:
    """Add the forces of one centre's energy to `forces` (rows of four numbers)."""
    n_species = t.n_species
    at = centre * s.centre
    row_at = centre * s.centre_blocks * WIDTH
    own_x, own_y, own_z = spread(0.0), spread(0.0), spread(0.0)
    for nu in range(n_species):
        for _ in range(s.blocks[centre * n_species + nu]):
            fx, fy, fz = _block_forces(t, s, mu, mu * n_species + nu, centre, at)
            own_x += fx
            own_y += fy
            own_z += fz
            rows = rows_of_columns(fx, fy, fz)
            for lane in range(WIDTH):
                place = 4 * s.bond_rows[row_at + lane]
                store(forces, place, load_row(forces, place) - rows[lane])
            at += s.block
            row_at += WIDTH
    forces[4 * i] += total(own_x)
    forces[4 * i + 1] += total(own_y)
    forces[4 * i + 2] += total(own_z)


@inline
def _block_forces(t: Program, s: Scratch, mu: int, pair: int, centre: int, at: int) -> tuple[Lanes, Lanes, Lanes]:
    """Return dE/d(r_j - r_i) of eight neighbours."""
    x, y, z, inverse = load(s.bonds, at), load(s.bonds, at + WIDTH), load(s.bonds, at + 2 * WIDTH), load(s.bonds, at + 3 * WIDTH)
    values = at + GEOMETRY_ROWS * WIDTH
    slopes = values + t.columns[pair] * WIDTH
    lmax = t.lmax[pair]
    radial, gx, gy, gz = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    if lmax >= 0:
        write_legendre(t, s, z, lmax)
        write_powers(s, x, y, lmax)
        radial, gz = _axial(t, s, pair, centre, values, slopes, lmax)
        for m in range(1, lmax + 1):
            dradial, dx, dy, dz = _azimuthal(t, s, pair, centre, values, slopes, lmax, m)
            radial += dradial
            gx += dx
            gy += dy
            gz += dz
    phi = t.phi[pair]
    if phi >= 0:
        for p in range(t.n_densities[mu]):
            radial += load(s.bonds, slopes + (phi + p) * WIDTH) * s.drho[p * WIDTH + centre]
    core = t.core[pair]
    if core >= 0:
        radial += load(s.bonds, slopes + core * WIDTH) * s.drho[t.top_densities * WIDTH + centre]
        if s.nearest[3 * centre] == at:
            radial += _nearest_slope(s, centre)
    # On the sphere: only what is perpendicular to u turns u.
    along = radial - (gx * x + gy * y + gz * z) * inverse
    return gx * inverse + x * along, gy * inverse + y * along, gz * inverse + z * along


@inline
def _nearest_slope(s: Scratch, centre: int) -> Lanes:
    """Return dE/dr of the neighbour that switches ZBL on, in its lane."""
    for lane in range(WIDTH):
        s.spline[lane] = s.nearest[3 * centre + 2] if s.nearest[3 * centre + 1] == lane else 0.0
    return load(s.spline, 0)


@inline
def _axial(
    t: Program, s: Scratch, pair: int, centre: int, values: int, slopes: int, lmax: int
) -> tuple[Lanes, Lanes]:
    """m = 0: return sum of dE/dA R' Q and of dE/dA R dQ/dz."""
    size, group = t.top_l + 2, pair * (t.top_l + 1)
    radial, gz = spread(0.0), spread(0.0)
    for angular in range(lmax + 1):
        S, dS = spread(0.0), spread(0.0)
        column = t.group_column[group + angular] * WIDTH
        weight = t.group_variable[group + angular] * WIDTH + centre
        for n in range(t.group_size[group + angular]):
            w = s.adjoint[weight + n * WIDTH]
            S += load(s.bonds, values + column + n * WIDTH) * w
            dS += load(s.bonds, slopes + column + n * WIDTH) * w
        radial += dS * load(s.legendre, angular * size * WIDTH)
        if angular > 0:
            gz += S * load(s.legendre, (angular * size + 1) * WIDTH) * t.q_slope[angular * size]
    return radial, gz


@inline
def _azimuthal(
    t: Program, s: Scratch, pair: int, centre: int, values: int, slopes: int, lmax: int, m: int
) -> tuple[Lanes, Lanes, Lanes, Lanes]:
    """One m > 0: return its part of dE/dr at fixed u, and of the gradient with respect to u."""
    size, group = t.top_l + 2, pair * (t.top_l + 1)
    # sums over l: S Q, S' Q and S dQ/dz, real and imaginary
    a_re, a_im, b_re, b_im, c_re, c_im = spread(0.0), spread(0.0), spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    for angular in range(m, lmax + 1):
        S_re, S_im, dS_re, dS_im = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
        count = t.group_size[group + angular]
        column = t.group_column[group + angular] * WIDTH
        weight = (t.group_variable[group + angular] + count * (2 * m - 1)) * WIDTH + centre
        for n in range(count):
            w_re, w_im = s.adjoint[weight + n * WIDTH], s.adjoint[weight + (count + n) * WIDTH]
            R, dR = load(s.bonds, values + column + n * WIDTH), load(s.bonds, slopes + column + n * WIDTH)
            S_re += R * w_re
            S_im += R * w_im
            dS_re += dR * w_re
            dS_im += dR * w_im
        Q = load(s.legendre, (angular * size + m) * WIDTH)
        a_re += S_re * Q
        a_im += S_im * Q
        b_re += dS_re * Q
        b_im += dS_im * Q
        if angular > m:
            dQ = load(s.legendre, (angular * size + m + 1) * WIDTH) * t.q_slope[angular * size + m]
            c_re += S_re * dQ
            c_im += S_im * dQ
    re, im = load(s.powers, 2 * m * WIDTH), load(s.powers, (2 * m + 1) * WIDTH)
    re_below, im_below = load(s.powers, (2 * m - 2) * WIDTH), load(s.powers, (2 * m - 1) * WIDTH)
    gx = (a_re * re_below + a_im * im_below) * float(m)
    gy = (a_im * re_below - a_re * im_below) * float(m)
    return b_re * re + b_im * im, gx, gy, c_re * re + c_im * im
