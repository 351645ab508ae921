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
from mlip_autopipec.ace.pointers import pointer, pointers, shifted
from mlip_autopipec.ace.program import Program
from mlip_autopipec.ace.records import FloatArray, IntArray, LongArray
from mlip_autopipec.ace.scratch import Scratch


class Frame(NamedTuple):
    """One frame in the order in which it is worked through.

    Attributes
    ----------
    places : ((M + 1) * 4,) x, y, z, species; the last row is far outside
    first, neighbours : the list
    n_rows : M
    blocks : (n_blocks * 8,) centres; missing ones are -1
    block_species : (n_blocks,)
    slabs : (n_slabs + 1,) first block of each slab; a slab has its own forces, added up in order at the end
    """

    places: FloatArray
    n_rows: int
    first: IntArray
    neighbours: IntArray
    blocks: LongArray
    block_species: LongArray
    slabs: LongArray


class Outcome(NamedTuple):
    """Results of a frame.

    Attributes
    ----------
    energies : (N,)
    forces : (n_slabs * (M + 1) * 4,)
    trouble : (n_slabs,) pairs closer than one spline bin
    """

    energies: FloatArray
    forces: FloatArray
    trouble: LongArray


@kernel
def evaluate_slabs(t: Program, frame: Frame, s: Scratch, out: Outcome, counter: LongArray) -> None:
    """Take slabs from the shared `counter` until none is left."""
    n_slabs, width = len(frame.slabs) - 1, 4 * (frame.n_rows + 1)
    program, bare_frame, bare_scratch, results = pointers(t), pointers(frame), pointers(s), pointers(out)
    while True:
        slab = take_ticket(pointer(counter))
        if slab >= n_slabs:
            break
        forces = shifted(results.forces, slab * width)
        for block in range(bare_frame.slabs[slab], bare_frame.slabs[slab + 1]):
            results.trouble[slab] += _evaluate_block(program, bare_frame, bare_scratch, results, block, forces)


@inline
def _evaluate_block(t: Program, frame: Frame, s: Scratch, out: Outcome, block: int, forces: FloatArray) -> int:
    mu = frame.block_species[block]
    count, trouble = 0, 0
    for centre in range(WIDTH):
        i = frame.blocks[block * WIDTH + centre]
        if i < 0:
            break
        count += 1
        begin, end = int(frame.first[i]), int(frame.first[i + 1])
        trouble += gather(t, s, frame.places, frame.neighbours, begin, end, i, mu, centre, frame.n_rows)
        at = centre * s.centre
        for nu in range(t.n_species):
            for _ in range(s.blocks[centre * t.n_species + nu]):
                interpolate(t, s, mu * t.n_species + nu, at)
                at += s.block
        sum_neighbours(t, s, mu, centre)
    evaluate_graph(t, s, mu)
    embed_centres(t, s, mu, count, s.energies)
    adjoint_graph(t, s, mu)
    for centre in range(count):
        i = frame.blocks[block * WIDTH + centre]
        out.energies[i] = s.energies[centre]
        scatter_forces(t, s, mu, centre, i, forces)
    return trouble
