"""Before and after the vectorised evaluator: the frame in working order, and forces and virial folded together."""

from __future__ import annotations

import numpy as np

from mlip_autopipec.ace.lanes.kernel import Frame
from mlip_autopipec.ace.records import FloatArray, IntArray
from mlip_autopipec.core.compiled.aligned import aligned_zeros
from mlip_autopipec.core.compiled.jit import kernel
from mlip_autopipec.core.compiled.vectors import WIDTH, load_row, store
from mlip_autopipec.core.compiled.views import pointer
from mlip_autopipec.core.interfaces import Neighbourhood

_FAR = 1.0e8
_SMALLEST_SLAB = 8
"""Blocks: fewer are not worth a thread."""
_SLABS_PER_THREAD = 4
"""More even out what threads lose to other programs, but each has forces to clear and to add up."""
_MOST_SLABS = 64


def arrange(frame: Neighbourhood, n_species: int, threads: int, wanted: int) -> Frame:
    """Sort centres by species into blocks of eight and blocks into slabs."""
    n_rows = len(frame.positions)
    species = frame.species[: frame.n_owned]
    members = [np.flatnonzero(species == mu) for mu in range(n_species)] if n_species > 1 else [np.arange(len(species))]
    counts = [-(-len(atoms) // WIDTH) for atoms in members]
    blocks = np.zeros((sum(counts), WIDTH), dtype=np.int64)
    sizes = np.full(sum(counts), WIDTH, dtype=np.int64)
    first = 0
    for atoms, count in zip(members, counts, strict=True):
        blocks[first : first + count].ravel()[: len(atoms)] = atoms
        if count:
            sizes[first + count - 1] = len(atoms) - (count - 1) * WIDTH
        first += count
    n_slabs = slab_count(len(blocks), threads)
    return Frame(
        n_rows=n_rows,
        n_slabs=n_slabs,
        wanted=wanted,
        places=aligned_zeros((n_rows + 1) * 4),
        first=np.ascontiguousarray(frame.first, dtype=np.int32),
        neighbours=np.ascontiguousarray(frame.neighbours, dtype=np.int32),
        blocks=blocks.ravel(),
        block_species=np.repeat(np.arange(n_species), counts),
        block_sizes=sizes,
        slabs=np.arange(n_slabs + 1) * len(blocks) // n_slabs,
    )


def slab_count(n_blocks: int, threads: int) -> int:
    """Return into how many slabs to cut: small ones let a thread that lost its core be helped out by the others."""
    if threads == 1:
        return 1
    return max(1, min(n_blocks // _SMALLEST_SLAB, _SLABS_PER_THREAD * threads, _MOST_SLABS))


@kernel
def place_atoms(positions: FloatArray, species: IntArray, places: FloatArray) -> bool:
    """Fill rows x, y, z, species and the far last row; return whether all positions are finite."""
    rows = len(species)
    check = 0.0
    for i in range(rows):
        for a in range(3):
            places[4 * i + a] = positions[i, a]
            check += 0.0 * positions[i, a]
        places[4 * i + 3] = species[i]
    for a in range(3):
        places[4 * rows + a] = _FAR
    places[4 * rows + 3] = -1.0
    return check == 0.0


@kernel
def fold(
    slab_forces: FloatArray, n_slabs: int, places: FloatArray, owners: IntArray, forces: FloatArray, sums: FloatArray
) -> None:
    """Add up the slabs in order, ghosts onto owners.

    Fills `forces` (N, 3) and adds sum x (x) F over all rows to `sums` (4, 4), whose last row and column are scratch.
    """
    n_rows, n_owned = len(owners), len(forces)
    width = 4 * (n_rows + 1)
    flat, xyz, tensor = pointer(slab_forces), pointer(places), pointer(sums)
    for i in range(n_rows):
        row = load_row(flat, 4 * i)
        for slab in range(1, n_slabs):
            row += load_row(flat, slab * width + 4 * i)
        for a in range(3):
            store(tensor, 4 * a, load_row(tensor, 4 * a) + row * xyz[4 * i + a])
        store(tensor, 12, row)
        owner = owners[i] if i >= n_owned else i
        for a in range(3):
            forces[owner, a] += sums[3, a]
