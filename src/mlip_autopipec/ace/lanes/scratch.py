"""Working memory of one thread of the vectorised evaluator; every array is a flat run of eight-lane rows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlip_autopipec.ace.grade_tables import GradeTables
from mlip_autopipec.ace.lanes.program import Program
from mlip_autopipec.ace.records import FloatArray, IntArray, LongArray
from mlip_autopipec.core.compiled.aligned import aligned_zeros
from mlip_autopipec.core.compiled.vectors import WIDTH

SPLINE_NUMBERS = 6 * WIDTH
"""Hermite weights of one bond block."""
GEOMETRY_ROWS = 5
"""Rows of a bond block before its radial functions: unit vector x, y, z, 1/r and r."""


class Scratch(NamedTuple):
    """Scratch arrays, see `make_scratch` for their sizes.

    Attributes
    ----------
    streams : x, y, z, r^2 of the neighbours of one centre, sorted by species, packed
    stream_rows : the same neighbours' rows in the frame
    capacity : neighbours in a stream
    block, centre : numbers in a bond block, in all blocks of a centre
    centre_blocks : blocks of a centre
    harmonics_block : numbers of Y_lm of one block
    bonds : per centre and block of eight neighbours: geometry rows, R, R'
    bond_rows : rows in the frame of the neighbours in `bonds`
    blocks : (8 * n_species,) blocks per centre and neighbour species
    spline : Hermite weights of the blocks of one centre; bins; offsets : their place in the table
    harmonics : Y_lm of the blocks of one centre and species
    sums : per variable (then phi_p, then core) and centre the sum over neighbours, still in eight lanes
    nodes, adjoint : per node of the graph, lanes = centres
    densities : rho_p, then core, lanes = centres
    drho : w F'(rho_p) times the core's switch, then dE/dcore
    nearest : (3 * 8,) place in `bonds`, lane and dE/dr of the neighbour that switches ZBL on
    energies : (8,) of the centres
    bare : w F'(rho_p), lanes = centres
    starts : recurrence of the radial basis, per block of one centre
    base_sums, folded : its sums, in eight lanes per centre; of one species, lanes = centres
    exact_sums : sums of g_k over neighbours inside of the inner cutoff, lanes = centres
    projections, grade_vector : lanes = centres
    """

    streams: FloatArray
    stream_rows: IntArray
    capacity: int
    block: int
    centre: int
    centre_blocks: int
    harmonics_block: int
    bonds: FloatArray
    bond_rows: IntArray
    blocks: LongArray
    spline: FloatArray
    bins: IntArray
    offsets: LongArray
    harmonics: FloatArray
    sums: FloatArray
    nodes: FloatArray
    adjoint: FloatArray
    densities: FloatArray
    drho: FloatArray
    nearest: FloatArray
    energies: FloatArray
    bare: FloatArray
    starts: FloatArray
    base_sums: FloatArray
    folded: FloatArray
    exact_sums: FloatArray
    projections: FloatArray
    grade_vector: FloatArray


def make_scratch(program: Program, grade: GradeTables, longest: int) -> Scratch:
    """Allocate working memory for centres with up to `longest` listed neighbours."""
    n_species, lmax, ndensity = program.n_species, program.top_l, program.top_densities
    capacity = (longest // WIDTH + 3) * WIDTH
    blocks = longest // WIDTH + 1 + n_species
    block = (GEOMETRY_ROWS + 2 * program.top_columns) * WIDTH
    # Not a multiple of a page: centres at equal places of their pages would fight for cache sets.
    centre = blocks * block + WIDTH
    harmonics = (lmax + 1) ** 2 * WIDTH
    return Scratch(
        streams=aligned_zeros(4 * n_species * capacity),
        stream_rows=aligned_zeros(n_species * capacity, np.int32),
        capacity=capacity,
        block=block,
        centre=centre,
        centre_blocks=blocks,
        harmonics_block=harmonics,
        bonds=aligned_zeros(WIDTH * centre),
        bond_rows=aligned_zeros(WIDTH * blocks * WIDTH, np.int32),
        blocks=np.zeros(WIDTH * n_species, np.int64),
        spline=aligned_zeros(blocks * SPLINE_NUMBERS),
        bins=aligned_zeros(blocks * WIDTH, np.int32),
        offsets=aligned_zeros(blocks * WIDTH, np.int64),
        harmonics=aligned_zeros(blocks * harmonics),
        sums=aligned_zeros((program.top_variables + ndensity + 1) * WIDTH * WIDTH),
        nodes=aligned_zeros((program.top_nodes + n_species * grade.n_base) * WIDTH),
        adjoint=aligned_zeros(program.top_nodes * WIDTH),
        densities=aligned_zeros((ndensity + 1) * WIDTH),
        drho=aligned_zeros((ndensity + 2) * WIDTH),
        nearest=np.zeros(3 * WIDTH),
        energies=np.zeros(WIDTH),
        bare=aligned_zeros(ndensity * WIDTH),
        starts=aligned_zeros(3 * blocks * WIDTH),
        base_sums=aligned_zeros(n_species * (grade.n_sums + WIDTH) * WIDTH * WIDTH),
        exact_sums=aligned_zeros(n_species * grade.n_base * WIDTH),
        folded=aligned_zeros(grade.n_sums * WIDTH),
        projections=aligned_zeros(grade.top_functions * WIDTH),
        grade_vector=aligned_zeros(grade.top_functions * ndensity * WIDTH),
    )
