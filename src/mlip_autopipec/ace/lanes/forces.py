"""Fifth stage: forces on centres and neighbours; lanes = neighbours."""

from __future__ import annotations

from mlip_autopipec.ace.lanes.harmonics import angular_forces
from mlip_autopipec.ace.lanes.program import Program
from mlip_autopipec.ace.lanes.scratch import GEOMETRY_ROWS, Scratch
from mlip_autopipec.ace.lanes.shuffles import rows_of_columns, total
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.core.compiled.jit import inline, splice
from mlip_autopipec.core.compiled.vectors import WIDTH, Lanes, load, load_row, spread, store
from mlip_autopipec.core.compiled.views import shifted


@splice
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
    x, y, z = load(s.bonds, at), load(s.bonds, at + WIDTH), load(s.bonds, at + 2 * WIDTH)
    inverse = load(s.bonds, at + 3 * WIDTH)
    values = at + GEOMETRY_ROWS * WIDTH
    slopes = values + t.columns[pair] * WIDTH
    group = pair * (t.top_l + 1)
    radial, gx, gy, gz = angular_forces(
        s.bonds,
        at,
        values,
        slopes,
        shifted(t.group_column, group),
        shifted(t.group_size, group),
        shifted(t.group_variable, group),
        shifted(s.adjoint, centre),
        t.lmax[pair],
    )
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
