"""Fourth stage: products of A, densities, embedding and their adjoint; lanes = eight centres of one species."""

from __future__ import annotations

import numpy as np

from mlip_autopipec.ace.embedding import embed, quintic_switch
from mlip_autopipec.ace.lanes.moments import fold_lanes
from mlip_autopipec.ace.lanes.program import Program
from mlip_autopipec.ace.lanes.scratch import Scratch
from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.core.compiled.jit import inline, splice
from mlip_autopipec.core.compiled.vectors import WIDTH, Lanes, load, spread, store
from mlip_autopipec.core.compiled.views import shifted

_ZBL = 2


@inline
def evaluate_graph(t: Program, s: Scratch, mu: int) -> None:
    """Nodes and densities from the sums over neighbours."""
    variables, ndensity = t.variables[mu], t.n_densities[mu]
    for variable in range(variables):
        fold_lanes(s.sums, variable, s.nodes, variable)
    for p in range(ndensity):
        fold_lanes(s.sums, t.top_variables + p, s.densities, p)
    fold_lanes(s.sums, t.top_variables + t.top_densities, s.densities, t.top_densities)
    factors = shifted(t.factors, 2 * t.first_product[mu])
    for k in range(t.n_nodes[mu] - variables):
        a, b = load(s.nodes, factors[2 * k] * WIDTH), load(s.nodes, factors[2 * k + 1] * WIDTH)
        store(s.nodes, (variables + k) * WIDTH, a * b)
    for p in range(ndensity):
        weights = shifted(t.node_weights, t.first_node[mu] * t.weight_stride + p)
        store(s.densities, p * WIDTH, load(s.densities, p * WIDTH) + _weighted_sum(t, s, weights, t.n_nodes[mu]))


@inline
def _weighted_sum(t: Program, s: Scratch, weights: FloatArray, count: int) -> Lanes:
    """Return the sum of weights * nodes; four sums at a time, since one would wait for itself."""
    a, b, c, d = spread(0.0), spread(0.0), spread(0.0), spread(0.0)
    step = t.weight_stride
    whole = count - count % 4
    for node in range(0, whole, 4):
        a += load(s.nodes, node * WIDTH) * weights[node * step]
        b += load(s.nodes, (node + 1) * WIDTH) * weights[(node + 1) * step]
        c += load(s.nodes, (node + 2) * WIDTH) * weights[(node + 2) * step]
        d += load(s.nodes, (node + 3) * WIDTH) * weights[(node + 3) * step]
    for node in range(whole, count):
        a += load(s.nodes, node * WIDTH) * weights[node * step]
    return (a + b) + (c + d)


@splice
def embed_centres(t: Program, s: Scratch, mu: int, count: int, energies: FloatArray) -> None:
    """Energies of `count` centres; their w F'(rho) into `s.bare` and, after the core's switch, into `s.drho`."""
    kind, last = t.embedding_kind[mu], t.top_densities
    for centre in range(count):
        energy = 0.0
        for p in range(t.n_densities[mu]):
            place = 2 * (mu * t.top_densities + p)
            weight, exponent = t.embedding[place], t.embedding[place + 1]
            F, dF = embed(kind, s.densities[p * WIDTH + centre], exponent)
            energy += weight * F
            s.bare[p * WIDTH + centre] = weight * dF
            s.drho[p * WIDTH + centre] = weight * dF
        s.nearest[3 * centre] = -1.0
        if t.has_core:
            energy, scale, dcore = _add_core(t, s, mu, centre, energy, s.densities[last * WIDTH + centre])
            for p in range(t.n_densities[mu]):
                s.drho[p * WIDTH + centre] *= scale
            s.drho[last * WIDTH + centre] = dcore
        energies[centre] = energy + t.isolated[mu]


@inline
def _add_core(
    t: Program, s: Scratch, mu: int, centre: int, energy: float, repulsion: float
) -> tuple[float, float, float]:
    """Return energy with core repulsion, dE/dE_ace and dE/drho_core."""
    if t.inner != _ZBL:
        scale, dscale = quintic_switch(repulsion, t.rho_cut[mu], t.drho_cut[mu])
        return energy * scale + repulsion, scale, energy * dscale + 1.0
    place, lane, closest, width = _nearest(t, s, mu, centre)
    if place < 0:
        return energy, 1.0, 0.0
    w, dw = quintic_switch(width - closest, width, width)
    if dw != 0.0:
        s.nearest[3 * centre], s.nearest[3 * centre + 1] = place, lane
        s.nearest[3 * centre + 2] = -dw * (energy - repulsion)
    return w * energy + (1.0 - w) * repulsion, w, 1.0 - w


@inline
def _nearest(t: Program, s: Scratch, mu: int, centre: int) -> tuple[int, int, float, float]:
    """Return block and lane of the neighbour with the smallest r - (r_in - delta_in), that distance, and delta_in."""
    n_species = t.n_species
    found, lane_found, closest, width = -1, -1, np.inf, 0.0
    at = centre * s.centre
    for nu in range(n_species):
        pair = mu * n_species + nu
        begin = t.r_in[pair] - t.delta_in[pair]
        for _ in range(s.blocks[centre * n_species + nu]):
            for lane in range(WIDTH):
                x = s.bonds[at + 4 * WIDTH + lane] - begin
                # Padding stands beyond the cutoff and is never nearer than a real neighbour.
                if x < closest:
                    found, lane_found, closest, width = at, lane, x, t.delta_in[pair]
            at += s.block
    return found, lane_found, closest, width


@inline
def adjoint_graph(t: Program, s: Scratch, mu: int) -> None:
    """dE/dnode for all nodes: from the densities, two at a time, then from product to factors."""
    weights = shifted(t.node_weights, t.first_node[mu] * t.weight_stride)
    first, second = load(s.drho, 0), load(s.drho, WIDTH)
    for node in range(t.n_nodes[mu]):
        at = node * t.weight_stride
        store(s.adjoint, node * WIDTH, first * weights[at] + second * weights[at + 1])
    for p in range(2, t.n_densities[mu], 2):
        first, second = load(s.drho, p * WIDTH), load(s.drho, (p + 1) * WIDTH)
        for node in range(t.n_nodes[mu]):
            at = node * t.weight_stride + p
            more = first * weights[at] + second * weights[at + 1]
            store(s.adjoint, node * WIDTH, load(s.adjoint, node * WIDTH) + more)
    steps = shifted(t.backwards, 3 * t.first_product[mu])
    for k in range(t.n_nodes[mu] - t.variables[mu]):
        outer = load(s.adjoint, steps[3 * k] * WIDTH)
        a, b = steps[3 * k + 1] * WIDTH, steps[3 * k + 2] * WIDTH
        store(s.adjoint, a, load(s.adjoint, a) + outer * load(s.nodes, b))
        store(s.adjoint, b, load(s.adjoint, b) + outer * load(s.nodes, a))
