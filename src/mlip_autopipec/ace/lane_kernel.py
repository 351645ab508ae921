"""The vectorised evaluator: runs the stages over blocks of eight centres of one species."""

from __future__ import annotations

from typing import NamedTuple

from mlip_autopipec.ace.jit import inline, kernel
from mlip_autopipec.ace.lane_density import adjoint_graph, embed_centres, evaluate_graph
from mlip_autopipec.ace.lane_forces import scatter_forces
from mlip_autopipec.ace.lane_geometry import gather
from mlip_autopipec.ace.lane_moments import sum_neighbours
from mlip_autopipec.ace.lane_radial import interpolate
from mlip_autopipec.ace.lanes import WIDTH, take_ticket
from mlip_autopipec.ace.program import Program
from mlip_autopipec.ace.records import FloatArray, IntArray
from mlip_autopipec.ace.scratch import Scratch


class Frame(NamedTuple):
    """One frame in the order in which it is worked through.

    Attributes
    ----------
    places : ((M + 1) * 4,) x, y, z, species; the last row is far outside
    first, neighbours : the list
    blocks : (n_blocks, 8) centres; missing ones are -1
    block_species : (n_blocks,)
    slabs : (n_slabs + 1,) first block of each slab; a slab has its own forces, added up in order at the end
    """

    places: FloatArray
    first: IntArray
    neighbours: IntArray
    blocks: IntArray
    block_species: IntArray
    slabs: IntArray


class Outcome(NamedTuple):
    """Results of a frame.

    Attributes
    ----------
    energies : (N,)
    forces : (n_slabs, (M + 1) * 4)
    trouble : (n_slabs,) pairs closer than one spline bin
    """

    energies: FloatArray
    forces: FloatArray
    trouble: IntArray


@kernel
def evaluate_slabs(t: Program, frame: Frame, s: Scratch, out: Outcome, counter: IntArray) -> None:
    """Take slabs from the shared `counter` until none is left."""
    while True:
        slab = take_ticket(counter)
        if slab >= len(frame.slabs) - 1:
            break
        for block in range(frame.slabs[slab], frame.slabs[slab + 1]):
            out.trouble[slab] += _evaluate_block(t, frame, s, out, block, out.forces[slab])


@inline
def _evaluate_block(t: Program, frame: Frame, s: Scratch, out: Outcome, block: int, forces: FloatArray) -> int:
    mu = frame.block_species[block]
    count, trouble = 0, 0
    for centre in range(WIDTH):
        i = frame.blocks[block, centre]
        if i < 0:
            break
        count += 1
        begin, end = frame.first[i], frame.first[i + 1]
        trouble += gather(t, s, frame.places, frame.neighbours, begin, end, i, mu, centre)
        at = centre * s.strides[2]
        for nu in range(t.sizes[0]):
            for _ in range(s.blocks[centre * t.sizes[0] + nu]):
                interpolate(t, s, mu * t.sizes[0] + nu, at)
                at += s.strides[1]
        sum_neighbours(t, s, mu, centre)
    evaluate_graph(t, s, mu)
    embed_centres(t, s, mu, count, s.energies, s.bare)
    adjoint_graph(t, s, mu)
    for centre in range(count):
        i = frame.blocks[block, centre]
        out.energies[i] = s.energies[centre]
        scatter_forces(t, s, mu, centre, i, forces)
    return trouble
