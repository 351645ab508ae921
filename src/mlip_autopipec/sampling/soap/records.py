"""One structure, scratch and results, as the kernels see them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mlip_autopipec.core.compiled.aligned import aligned_zeros
from mlip_autopipec.core.compiled.vectors import WIDTH
from mlip_autopipec.core.compiled.views import LongArray
from mlip_autopipec.core.interfaces import FloatArray, IntArray
from mlip_autopipec.sampling.soap.products import BLOCK
from mlip_autopipec.sampling.soap.tables import Tables

SLAB = 32
"""Centres that a thread takes at once; sums are added up per slab, so that they do not depend on the threads."""
ROWS, OUTER, INNER = 0, 1, 2
"""What is wanted: every power spectrum, their sum, or the sum of the expansion coefficients."""


class Frame(NamedTuple):
    """Centres, and all atoms and images around them, sorted into cells.

    Attributes
    ----------
    wanted : ROWS, OUTER or INNER
    span : number of cells that `reach` spans in each direction
    shape : (3,) number of cells
    centres : (n_centres * 3,) A
    homes : (n_centres * 3,) cell of each centre
    x, y, z : (M + WIDTH,) of atoms and images, cell by cell, A
    tags : (M + WIDTH,) species
    first : (n_cells + 1,) first atom of each cell; cells along z are neighbours
    """

    n_centres: int
    n_slabs: int
    wanted: int
    span: int
    shape: LongArray
    centres: FloatArray
    homes: LongArray
    x: FloatArray
    y: FloatArray
    z: FloatArray
    tags: FloatArray
    first: LongArray


class Scratch(NamedTuple):
    """What one thread writes on the way.

    Attributes
    ----------
    capacity : numbers of one stream
    streams : (4 * n_species * capacity,) x, y, z, r^2 of the neighbours by species
    counts : (n_species,)
    bins, fractions : (BLOCK,) place in the radial tables
    harmonics : (n_rows, BLOCK)
    radial : (BLOCK, columns)
    sums : (n_species, n_rows, width) expansion coefficients
    spectrum : (n_features + WIDTH,)
    """

    capacity: int
    streams: FloatArray
    counts: LongArray
    bins: IntArray
    fractions: FloatArray
    harmonics: FloatArray
    radial: FloatArray
    sums: FloatArray
    spectrum: FloatArray


class Outcome(NamedTuple):
    """Results: power spectra (n_centres * n_features,), or sums of each slab (n_slabs * numbers,)."""

    rows: FloatArray
    totals: FloatArray


def make_scratch(t: Tables, n_atoms: int) -> Scratch:
    """Return scratch for structures of up to `n_atoms` atoms and images; memory that is never used is never taken."""
    capacity = n_atoms + 2 * WIDTH
    return Scratch(
        capacity=capacity,
        streams=aligned_zeros(4 * t.n_species * capacity),
        counts=np.zeros(t.n_species, dtype=np.int64),
        bins=np.zeros(BLOCK, dtype=np.int32),
        fractions=np.zeros(BLOCK),
        harmonics=aligned_zeros(t.n_rows * BLOCK),
        radial=aligned_zeros(BLOCK * t.columns),
        sums=aligned_zeros(t.n_species * t.n_rows * t.width + WIDTH),
        spectrum=aligned_zeros(t.n_features + WIDTH),
    )
