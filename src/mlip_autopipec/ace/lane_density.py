"""Fourth stage: products of A, densities, embedding and their adjoint; lanes = eight centres of one species."""

from __future__ import annotations

import numpy as np

from mlip_autopipec.ace.embedding import embed, quintic_switch
from mlip_autopipec.ace.jit import inline
from mlip_autopipec.ace.lane_moments import fold_lanes
from mlip_autopipec.ace.lanes import WIDTH, load, spread, store
from mlip_autopipec.ace.program import (
    DELTA_IN,
    FIRST_OUTPUT,
    FIRST_PRODUCT,
    LAST_OUTPUT,
    LAST_PRODUCT,
    N_DENSITIES,
    R_IN,
    VARIABLES,
    Program,
)
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.ace.scratch import Scratch

_ZBL = 2


@inline
def evaluate_graph(t: Program, s: Scratch, mu: int) -> None:
    """Nodes and densities from the sums over neighbours."""
    variables, ndensity = t.species[mu, VARIABLES], t.species[mu, N_DENSITIES]
    for variable in range(variables):
        fold_lanes(s.sums, variable, s.nodes, variable)
    for p in range(ndensity):
        fold_lanes(s.sums, s.strides[4] + p, s.densities, p)
    fold_lanes(s.sums, s.strides[4] + t.sizes[4], s.densities, t.sizes[4])
    first = t.species[mu, FIRST_PRODUCT]
    for k in range(t.species[mu, LAST_PRODUCT] - first):
        a = load(s.nodes, t.factors[first + k, 0] * WIDTH)
        b = load(s.nodes, t.factors[first + k, 1] * WIDTH)
        store(s.nodes, (variables + k) * WIDTH, a * b)
    for p in range(ndensity):
        rho = load(s.densities, p * WIDTH)
        for k in range(t.species[mu, FIRST_OUTPUT], t.species[mu, LAST_OUTPUT]):
            rho += load(s.nodes, t.output_nodes[k] * WIDTH) * t.output_weights[k, p]
        store(s.densities, p * WIDTH, rho)


@inline
def embed_centres(t: Program, s: Scratch, mu: int, count: int, energies: FloatArray, bare: FloatArray) -> None:
    """Energies of `count` centres; their w F'(rho) into `bare` and, after the core's switch, into `s.drho`."""
    kind, last = t.embedding_shapes[mu, 0], t.sizes[4]
    for centre in range(count):
        energy = 0.0
        for p in range(t.species[mu, N_DENSITIES]):
            weight, exponent = t.embeddings[mu, 2 * p], t.embeddings[mu, 2 * p + 1]
            F, dF = embed(kind, s.densities[p * WIDTH + centre], exponent)
            energy += weight * F
            bare[p * WIDTH + centre] = weight * dF
            s.drho[p * WIDTH + centre] = weight * dF
        s.nearest[centre, 0] = -1.0
        if t.has_core:
            energy, scale, dcore = _add_core(t, s, mu, centre, energy, s.densities[last * WIDTH + centre])
            for p in range(t.species[mu, N_DENSITIES]):
                s.drho[p * WIDTH + centre] *= scale
            s.drho[last * WIDTH + centre] = dcore
        energies[centre] = energy + t.isolated[mu]


@inline
def _add_core(
    t: Program, s: Scratch, mu: int, centre: int, energy: float, repulsion: float
) -> tuple[float, float, float]:
    """Return energy with core repulsion, dE/dE_ace and dE/drho_core."""
    if t.inner != _ZBL:
        scale, dscale = quintic_switch(repulsion, t.embedding_shapes[mu, 2], t.embedding_shapes[mu, 3])
        return energy * scale + repulsion, scale, energy * dscale + 1.0
    place, lane, closest, width = _nearest(t, s, mu, centre)
    if place < 0:
        return energy, 1.0, 0.0
    w, dw = quintic_switch(width - closest, width, width)
    if dw != 0.0:
        s.nearest[centre, 0], s.nearest[centre, 1], s.nearest[centre, 2] = place, lane, -dw * (energy - repulsion)
    return w * energy + (1.0 - w) * repulsion, w, 1.0 - w


@inline
def _nearest(t: Program, s: Scratch, mu: int, centre: int) -> tuple[int, int, float, float]:
    """Return block and lane of the neighbour with the smallest r - (r_in - delta_in), that distance, and delta_in."""
    n_species = t.sizes[0]
    found, lane_found, closest, width = -1, -1, np.inf, 0.0
    at = centre * s.strides[2]
    for nu in range(n_species):
        pair = mu * n_species + nu
        begin = t.pair_reals[pair, R_IN] - t.pair_reals[pair, DELTA_IN]
        for _ in range(s.blocks[centre * n_species + nu]):
            for lane in range(WIDTH):
                x = 1.0 / s.bonds[at + 3 * WIDTH + lane] - begin
                # Padding stands at the cutoff and is never nearer than a real neighbour.
                if x < closest:
                    found, lane_found, closest, width = at, lane, x, t.pair_reals[pair, DELTA_IN]
            at += s.strides[1]
    return found, lane_found, closest, width


@inline
def adjoint_graph(t: Program, s: Scratch, mu: int) -> None:
    """dE/dnode for all nodes, backwards through the products."""
    variables, first = t.species[mu, VARIABLES], t.species[mu, FIRST_PRODUCT]
    n_products = t.species[mu, LAST_PRODUCT] - first
    for node in range(variables + n_products):
        store(s.adjoint, node * WIDTH, spread(0.0))
    for k in range(t.species[mu, FIRST_OUTPUT], t.species[mu, LAST_OUTPUT]):
        sum_ = spread(0.0)
        for p in range(t.species[mu, N_DENSITIES]):
            sum_ += load(s.drho, p * WIDTH) * t.output_weights[k, p]
        store(s.adjoint, t.output_nodes[k] * WIDTH, sum_)
    for k in range(n_products - 1, -1, -1):
        a, b = t.factors[first + k, 0] * WIDTH, t.factors[first + k, 1] * WIDTH
        outer = load(s.adjoint, (variables + k) * WIDTH)
        store(s.adjoint, a, load(s.adjoint, a) + outer * load(s.nodes, b))
        store(s.adjoint, b, load(s.adjoint, b) + outer * load(s.nodes, a))
