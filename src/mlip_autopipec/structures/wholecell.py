"""Whole cells: a small periodic piece of a frame's phase, with its density and composition, in which every atom counts.

Masked carved cells alone leave the energies of a phase undetermined; a few cells without a mask settle them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.structures.calming import calm
from mlip_autopipec.structures.collisions import find_contacts, pair_table, usual_distances
from mlip_autopipec.structures.neutrality import surplus_atoms
from mlip_autopipec.structures.selection import Selected, select_atoms
from mlip_autopipec.structures.snapping import between_planes, repeats
from mlip_autopipec.structures.units import Units, find_units
from mlip_autopipec.structures.window import (
    FloatArray,
    IndexArray,
    Parent,
    Window,
    complete_parent,
    images_within,
    parallelepiped,
    wrap,
)

PARENT_INDEX: Final = "parent_index"
# A frame of up to so many times the wanted atoms is small enough as it is.
_SMALL_ENOUGH: Final = 1.5
# Places that are tried; the best one is taken.
_ATTEMPTS: Final = 24
# The seam's pairs end up no nearer than the closest of the frame's pairs, leaving out the violent ones (this share).
_VIOLENT: Final = 0.05
# Of that distance; what is nearer at the end is a contact, and no cell is made.
_NEAR_ENOUGH: Final = 0.97
# Largest move of an atom at the seam, A: less than half a neighbour's distance, so that nothing changes places.
_MOST_A: Final = 1.0
# A place whose density differs by more (in length) is not scaled, but left.
_LARGEST_STRAIN: Final = 0.04
_LOCAL_A: Final = 6.0


@dataclass(frozen=True)
class _Phase:
    """What all attempts share. `density` in atoms per A^3; `deep`: atoms that may be in the middle.

    `nearest`: how near atoms of two elements come in the frame, A.
    """

    atoms: Atoms
    parent: Parent
    units: Units
    density: float
    deep: IndexArray
    counts: IndexArray
    nearest: dict[tuple[int, int], float]
    states: Mapping[str, float] | None


def whole_cell(
    frame: Atoms, n_atoms: int = 32, seed: int = 0, *, oxidation_states: Mapping[str, float] | None = None
) -> Atoms:
    """Return a periodic cell of about `n_atoms` with the frame's density and composition.

    A crystal gives a multiple of its own repeats, defects included if they happen to be there; anything else a box
    whose atoms near the seam are moved apart (by at most 1 A) until they are no nearer than the frame's own close
    pairs. A frame that is small already is returned itself. The array `parent_index` (N,) tells which atoms of the
    frame these are.

    Such a box fits its own period badly: it lies above the frame's energy until it was settled (`structures.settling`).

    Parameters
    ----------
    frame : any structure; one that is not small must be periodic in all directions
    seed : the same seed gives the same cell

    Raises
    ------
    DataError
        The frame is open, or none of the places that were tried gives a cell without contacts at its seam.
    """
    if len(frame) <= _SMALL_ENOUGH * n_atoms:
        itself = Atoms(frame.numbers, positions=frame.positions, cell=frame.cell, pbc=frame.pbc)
        itself.set_array(PARENT_INDEX, np.arange(len(frame)))
        return itself
    if not frame.pbc.all():
        raise DataError(
            f"whole cell: the frame has {len(frame)} atoms and open directions {frame.pbc.tolist()}",
            "only periodic frames have a density; give labelled cells of this phase in start.dataset",
        )
    phase = _phase(frame, oxidation_states)
    rng = np.random.default_rng(seed)
    made = [_attempt(phase, n_atoms, int(rng.choice(phase.deep))) for _ in range(_ATTEMPTS)]
    usable = [cell for cell in made if cell is not None]
    if not usable:
        raise DataError(
            f"whole cell: none of {_ATTEMPTS} places of the frame gives {n_atoms} atoms without contacts at the seam",
            "a larger embedding.whole_cell_atoms is easier",
        )
    return min(usable, key=lambda cell: cell[0])[1]


def _phase(frame: Atoms, states: Mapping[str, float] | None) -> _Phase:
    parent = complete_parent(np.asarray(frame.cell), frame.pbc)
    density = len(frame) / abs(np.linalg.det(parent.basis))
    offsets = frame.positions - frame.positions[0]
    owners, around = images_within(parent, offsets, 0.5 * parent.heights + _LOCAL_A)
    counted = cKDTree(around).query_ball_point(_wrapped(parent, offsets), _LOCAL_A, return_length=True)
    local = np.asarray(counted) / (4.0 / 3.0 * np.pi * _LOCAL_A**3)
    deep = np.arange(len(frame))
    # With vacuum in the cell the frame's density says nothing: the densest quarter of its atoms is the phase.
    if density < 0.85 * float(np.median(local)):
        density = float(np.quantile(local, 0.75))
        deep = np.flatnonzero(local >= density)
    units = find_units(parent, frame.numbers, frame.positions)
    groups = None if units.are_atoms else (units.of_atom, units.of_atom[owners])
    nearest = usual_distances(
        frame.numbers, _wrapped(parent, offsets), frame.numbers[owners], around, groups, quantile=_VIOLENT
    )
    counts = repeats(parent, frame.numbers, frame.positions)
    return _Phase(frame, parent, units, density, deep, counts, nearest, states)


def _wrapped(parent: Parent, offsets: FloatArray) -> FloatArray:
    return np.asarray(wrap(parent, parent.coordinates(offsets)) @ parent.basis)


def _attempt(phase: _Phase, n_atoms: int, center: int) -> tuple[float, Atoms] | None:
    """Return a cell around one atom, with a penalty by which attempts compare; None if it is not usable."""
    offsets = phase.atoms.positions - phase.atoms.positions[center]
    edges = _edges(phase, n_atoms)
    window = parallelepiped(phase.parent, offsets, edges)
    is_crystal = bool((phase.counts > 1).all())
    middle = between_planes(phase.parent, phase.counts, edges, offsets) if is_crystal else np.zeros(3)
    # Nothing is a core here, but for the molecule in the middle.
    found = select_atoms(phase.parent, window, offsets, phase.units, 1e-6, None, middle)
    numbers = phase.atoms.numbers
    protected = np.zeros(len(found.indices), dtype=bool)
    try:
        surplus, _ = surplus_atoms(numbers, phase.units, found.indices, found.distances, protected, phase.states)
    except DataError:
        return None
    stays = np.setdiff1d(np.arange(len(found.indices)), surplus)
    if len(stays) < 2:
        return None
    volume = abs(np.linalg.det(window.cell))
    strain = 1.0 if is_crystal else (len(stays) / phase.density / volume) ** (1.0 / 3.0)
    if abs(strain - 1.0) > _LARGEST_STRAIN:
        return None
    placed = _mended(phase, window, found, stays, strain)
    if placed is None:
        return None
    vectors, moved = placed
    kept = numbers[found.indices[stays]]
    share = [abs(np.mean(kept == z) - np.mean(numbers == z)) for z in np.unique(numbers)]
    cell = Atoms(kept, positions=vectors + 0.5 * strain * window.cell.sum(axis=0), cell=strain * window.cell, pbc=True)
    cell.wrap()
    cell.set_array(PARENT_INDEX, found.indices[stays])
    return 10.0 * abs(strain - 1.0) + sum(share) + moved + abs(len(kept) - n_atoms) / n_atoms, cell


def _edges(phase: _Phase, n_atoms: int) -> FloatArray:
    """Return (3,) heights, A: multiples of the crystal's repeats, or equal ones that hold `n_atoms` by density."""
    heights, counts = phase.parent.heights, phase.counts
    volume = abs(np.linalg.det(phase.parent.basis))
    if (counts > 1).all():
        repeat, per_repeat = heights / counts, len(phase.atoms) / float(np.prod(counts))
        best = min(
            product(*(range(1, int(n) + 1) for n in counts)),
            key=lambda m: (
                2.0 * abs(np.log(np.prod(m) * per_repeat / n_atoms)) + float(np.ptp(np.log(np.array(m) * repeat))),
                m,
            ),
        )
        return np.asarray(np.array(best) * repeat)
    share = n_atoms / phase.density / volume
    scale = np.full(3, np.nan)
    # Directions that are thinner than the edge keep their period; the others share what is left.
    for _ in range(3):
        open_ones = np.isnan(scale)
        rest = share / float(np.prod(scale[~open_ones]))
        edge = (rest * float(np.prod(heights[open_ones]))) ** (1.0 / max(1, int(open_ones.sum())))
        thin = open_ones & (heights <= edge)
        if not thin.any():
            break
        scale[thin] = 1.0
    return np.asarray(np.where(np.isnan(scale), edge, heights))


def _mended(
    phase: _Phase, window: Window, found: Selected, stays: IndexArray, strain: float
) -> tuple[FloatArray, float] | None:
    """Return the positions (M, 3), A, relative to the middle, without contacts at the seam, and their RMS move."""
    unit = phase.units.of_atom[found.indices[stays]]
    _, place, sizes = np.unique(unit, return_inverse=True, return_counts=True)
    middles = np.zeros((len(sizes), 3))
    np.add.at(middles, place, found.vectors[stays])
    # Molecules keep their shape.
    vectors = found.vectors[stays] + (strain - 1.0) * (middles / sizes[:, None])[place]
    cell, is_new = strain * window.cell, window.pbc & ~window.kept
    limits = pair_table(phase.atoms.numbers[found.indices[stays]], phase.nearest)
    movable = np.ones(len(stays), dtype=bool)
    placed = calm(vectors, cell, window.pbc, limits, is_new, movable, unit, _MOST_A)
    first, second, _ = find_contacts(placed, cell, window.pbc, _NEAR_ENOUGH * limits, is_new)
    if (unit[first] != unit[second]).any() or (first == second).any():
        return None
    return placed, float(np.sqrt(((placed - vectors) ** 2).sum(axis=1).mean()))
