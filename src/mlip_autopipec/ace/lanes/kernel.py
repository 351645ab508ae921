"""The vectorised evaluator: runs the stages over blocks of eight centres of one species."""

from __future__ import annotations

from typing import NamedTuple

from mlip_autopipec.ace.grade_tables import GradeTables
from mlip_autopipec.ace.lanes.density import adjoint_graph, embed_centres, evaluate_graph
from mlip_autopipec.ace.lanes.forces import scatter_forces
from mlip_autopipec.ace.lanes.geometry import gather
from mlip_autopipec.ace.lanes.grade import grade, project, start_recurrence, sum_recurrence
from mlip_autopipec.ace.lanes.moments import clear_sums, sum_blocks
from mlip_autopipec.ace.lanes.program import Program
from mlip_autopipec.ace.lanes.radial import interpolate, prepare_splines
from mlip_autopipec.ace.lanes.scratch import Scratch
from mlip_autopipec.ace.records import FloatArray, IntArray, LongArray
from mlip_autopipec.core.compiled.jit import kernel, splice
from mlip_autopipec.core.compiled.vectors import WIDTH, store
from mlip_autopipec.core.compiled.views import pointer, shifted, take_ticket, viewer

FORCES, PROJECTIONS, GRADE = 1, 2, 4
"""What is wanted of a frame, as bits of `Frame.wanted`; energies always come."""


class Frame(NamedTuple):
    """One frame in the order in which it is worked through.

    Attributes
    ----------
    n_rows : M, owned atoms and ghosts
    n_slabs : a slab is a run of blocks with its own forces, added up in order at the end
    wanted : bits FORCES, PROJECTIONS, GRADE
    places : ((M + 1) * 4,) x, y, z, species; the last row is far outside
    first, neighbours : the list
    blocks : (n_blocks * 8,) centres of one species
    block_species, block_sizes : (n_blocks,) the last block of a species may have fewer than eight centres
    slabs : (n_slabs + 1,) first block of each slab
    """

    n_rows: int
    n_slabs: int
    wanted: int
    places: FloatArray
    first: IntArray
    neighbours: IntArray
    blocks: LongArray
    block_species: LongArray
    block_sizes: LongArray
    slabs: LongArray


class Outcome(NamedTuple):
    """Results of a frame.

    Attributes
    ----------
    energies : (N,)
    forces : (at least n_slabs * (M + 1) * 4,) the kernel clears it
    grade : (N,)
    projections : (N * n_max,)
    trouble : (n_slabs,) pairs closer than one spline bin
    """

    energies: FloatArray
    forces: FloatArray
    grade: FloatArray
    projections: FloatArray
    trouble: LongArray


_program, _grade, _frame, _scratch, _outcome = map(viewer, (Program, GradeTables, Frame, Scratch, Outcome))


@kernel
def evaluate_slabs(
    t: LongArray, g: LongArray, frame: LongArray, s: LongArray, out: LongArray, counter: LongArray
) -> None:
    """Take slabs from the shared `counter` until none is left.

    The arguments are the tables of a packed Program, GradeTables, Frame, Scratch and Outcome.
    """
    _work(_program(t), _grade(g), _frame(frame), _scratch(s), _outcome(out), pointer(counter))


@splice
def _work(t: Program, g: GradeTables, frame: Frame, s: Scratch, out: Outcome, counter: LongArray) -> None:
    while True:
        slab = take_ticket(counter)
        if slab >= frame.n_slabs:
            break
        forces = shifted(out.forces, slab * 4 * (frame.n_rows + 1))
        if frame.wanted & FORCES:
            for k in range(4 * (frame.n_rows + 1)):
                forces[k] = 0.0
        for block in range(frame.slabs[slab], frame.slabs[slab + 1]):
            mu = frame.block_species[block]
            count = frame.block_sizes[block]
            for centre in range(count):
                i = frame.blocks[block * WIDTH + centre]
                out.trouble[slab] += _sum_centre(t, g, frame, s, i, mu, centre)
            _evaluate_centres(t, g, frame, s, out, block * WIDTH, mu, count)
            if frame.wanted & FORCES:
                adjoint_graph(t, s, mu)
                for centre in range(count):
                    scatter_forces(t, s, mu, centre, frame.blocks[block * WIDTH + centre], forces)


@splice
def _sum_centre(t: Program, g: GradeTables, frame: Frame, s: Scratch, i: int, mu: int, centre: int) -> int:
    """Everything that is a sum over the neighbours of one centre."""
    begin, end = int(frame.first[i]), int(frame.first[i + 1])
    trouble = gather(t, s, frame.places, frame.neighbours, begin, end, i, mu, centre, frame.n_rows)
    if frame.wanted & (PROJECTIONS | GRADE):
        for k in range(t.n_species * g.n_base):
            s.exact_sums[k * WIDTH + centre] = 0.0
    clear_sums(t, s, mu, centre)
    at, block = centre * s.centre, 0 * centre
    for nu in range(t.n_species):
        pair, blocks = mu * t.n_species + nu, s.blocks[centre * t.n_species + nu]
        prepare_splines(t, s, pair, at, block, blocks)
        for k in range(blocks):
            interpolate(t, s, pair, at + k * s.block, block + k)
        sum_blocks(t, s, mu, pair, at, blocks, centre)
        if frame.wanted & (PROJECTIONS | GRADE):
            for k in range(blocks):
                start_recurrence(g, s, pair, block + k, at + k * s.block, nu * g.n_base * WIDTH + centre)
        at += blocks * s.block
        block += blocks
    if frame.wanted & (PROJECTIONS | GRADE):
        sum_recurrence(t, g, s, centre)
    return trouble


@splice
def _evaluate_centres(
    t: Program, g: GradeTables, frame: Frame, s: Scratch, out: Outcome, first: int, mu: int, count: int
) -> None:
    """Energies, projections and grades of one block."""
    evaluate_graph(t, s, mu)
    embed_centres(t, s, mu, count, s.energies)
    for centre in range(count):
        out.energies[frame.blocks[first + centre]] = s.energies[centre]
    if frame.wanted & (PROJECTIONS | GRADE):
        project(t, g, s, mu)
    if frame.wanted & PROJECTIONS:
        for centre in range(count):
            place = frame.blocks[first + centre] * g.top_functions
            for k in range(g.first_function[mu + 1] - g.first_function[mu]):
                out.projections[place + k] = s.projections[k * WIDTH + centre]
    if frame.wanted & GRADE:
        store(s.energies, 0, grade(t, g, s, mu))
        for centre in range(count):
            out.grade[frame.blocks[first + centre]] = s.energies[centre]
