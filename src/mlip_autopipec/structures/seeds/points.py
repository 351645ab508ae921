"""Point defects: vacancies, interstitials, antisites. Ionic crystals keep their formula, so that cells stay neutral."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase import Atoms
from scipy.spatial import Delaunay

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.structures.seeds.contacts import Bonds
from mlip_autopipec.structures.seeds.packing import push_apart

# An inserted atom and its neighbours end up no nearer than this part of a bond.
_SQUEEZED = 0.80


def vacancy(cell: Atoms, element: str) -> Atoms:
    """Return the cell without one atom of an element."""
    return _without(cell, [_first(cell, element)])


def schottky(cell: Atoms, counts: Mapping[str, int]) -> Atoms:
    """Return the cell without one formula unit, its atoms as near to each other as there are."""
    gone = [_first(cell, max(counts, key=lambda e: -counts[e]))]
    for element, n in counts.items():
        distances = cell.get_distances(gone[0], range(len(cell)), mic=True)
        free = [i for i in np.argsort(distances, kind="stable") if cell.symbols[i] == element and i not in gone]
        gone += [int(i) for i in free[: n - sum(cell.symbols[g] == element for g in gone)]]
    return _without(cell, gone)


def interstitial(cell: Atoms, element: str, bonds: Bonds) -> Atoms | None:
    """Return the cell with one more atom in its largest hole, neighbours pushed aside; None if there is no room."""
    crowded = cell.copy()
    crowded.append(element)
    crowded.positions[-1] = largest_hole(cell)
    return push_apart(crowded, bonds, _SQUEEZED)


def frenkel(cell: Atoms, element: str, bonds: Bonds) -> Atoms | None:
    """Return the cell with one atom moved from its site into the largest hole; None if there is no room."""
    moved = cell.copy()
    hole = largest_hole(cell)
    own = [i for i in range(len(cell)) if cell.symbols[i] == element]
    # The farthest one: next to its own vacancy an interstitial falls back.
    probe = cell.copy()
    probe.append(element)
    probe.positions[-1] = hole
    distances = probe.get_distances(len(cell), own, mic=True)
    moved.positions[own[int(np.argmax(distances))]] = hole
    return push_apart(moved, bonds, _SQUEEZED)


def antisite(cell: Atoms, first: str, second: str, *, exchange: bool) -> Atoms:
    """Return the cell with a `second` on the site of a `first`; with `exchange` both change places."""
    copy: Atoms = cell.copy()
    one = _first(copy, first)
    if exchange:
        other = _nearest(copy, one, second)
        copy.symbols[other] = first
    copy.symbols[one] = second
    return copy


def largest_hole(cell: Atoms) -> FloatArray:
    """Return (3,) A, the point of a periodic cell that is farthest from all atoms: a corner of the Voronoi cells.

    Of equally large holes it is the one with the smallest fractional coordinates.
    """
    shifts = np.array(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1])).reshape(3, -1).T
    places = (np.asarray(cell.positions)[None] + (shifts @ np.asarray(cell.cell[:]))[:, None]).reshape(-1, 3)
    # Crystals are degenerate: joggling makes simplices of what would be flat.
    corners = places[Delaunay(places, qhull_options="QJ").simplices]
    sides = corners[:, 1:] - corners[:, :1]
    solid = np.abs(np.linalg.det(sides)) > 1e-3
    corners, sides = corners[solid], sides[solid]
    middles = corners[:, 0] + np.linalg.solve(sides, 0.5 * (sides**2).sum(axis=2)[:, :, None])[:, :, 0]
    fractions = np.linalg.solve(np.asarray(cell.cell[:]).T, middles.T).T
    inside = ((fractions > -1e-6) & (fractions < 1 - 1e-6)).all(axis=1)
    middles, fractions = middles[inside], fractions[inside]
    radii = np.linalg.norm(middles - corners[inside][:, 0], axis=1)
    best = np.flatnonzero(radii > radii.max() - 1e-3)
    order = np.lexsort(np.round(fractions[best], 3).T)
    return np.asarray(middles[best[order[0]]])


def _first(cell: Atoms, element: str) -> int:
    return int(np.flatnonzero(np.asarray(cell.get_chemical_symbols()) == element)[0])


def _nearest(cell: Atoms, atom: int, element: str) -> int:
    others = np.flatnonzero(np.asarray(cell.get_chemical_symbols()) == element)
    return int(others[int(np.argmin(cell.get_distances(atom, others, mic=True)))])


def _without(cell: Atoms, gone: list[int]) -> Atoms:
    return cell[[i for i in range(len(cell)) if i not in gone]]
