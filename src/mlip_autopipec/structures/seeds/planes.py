"""Planar defects: slabs with two surfaces, and stacking faults in tilted periodic cells."""

from __future__ import annotations

from typing import Final

import numpy as np
from ase import Atoms
from ase.build import surface

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.structures.seeds.contacts import Bonds, pairs

Miller = tuple[int, int, int]
_MILLER: Final[dict[str, tuple[Miller, ...]]] = {
    "fcc": ((1, 1, 1), (1, 0, 0), (1, 1, 0)),
    "bcc": ((1, 1, 0), (1, 0, 0), (1, 1, 1)),
    "hcp": ((0, 0, 1), (1, 0, 0)),
    "diamond": ((1, 1, 1), (1, 1, 0), (1, 0, 0)),
    "zincblende": ((1, 1, 0),),
    "wurtzite": ((1, 0, 0), (1, 1, 0)),
    "rocksalt": ((1, 0, 0), (1, 1, 0)),
    "fluorite": ((1, 1, 1), (1, 1, 0)),
    "antifluorite": ((1, 1, 1), (1, 1, 0)),
    "cesiumchloride": ((1, 1, 0),),
    "rutile": ((1, 1, 0), (1, 0, 0)),
}
_FAULT_PLANE: Final[dict[str, Miller]] = {
    "fcc": (1, 1, 1), "hcp": (0, 0, 1), "bcc": (1, 1, 0), "diamond": (1, 1, 1), "zincblende": (1, 1, 1),
    "wurtzite": (0, 0, 1), "rocksalt": (1, 1, 0), "L1_0": (1, 1, 1), "L1_2": (1, 1, 1),
}  # fmt: skip
_OTHERWISE: Final[tuple[Miller, ...]] = ((1, 0, 0), (1, 1, 0), (0, 0, 1), (1, 1, 1))
_THICK_A: Final = 6.0
_VACUUM_A: Final = 6.0  # on each side
_GRID: Final = 6
# A fault is opened until its atoms are no nearer than this part of a bond.
_TOUCHING: Final = 0.86


def millers(structure: str) -> tuple[Miller, ...]:
    """Return the surfaces that are worth a slab: dense, and of ions those without a dipole."""
    return _MILLER.get(structure, _OTHERWISE)


def slab(crystal: Atoms, miller: Miller, most: int) -> Atoms | None:
    """Return a slab of at least 6 A with vacuum on both sides, open along c; None if that takes too many atoms.

    Parameters
    ----------
    crystal
        Conventional cell.
    most
        Atoms.
    """
    for layers in range(1, 9):
        made = surface(crystal, miller, layers, vacuum=_VACUUM_A)
        if len(made) > most:
            return None
        if np.ptp(made.positions[:, 2]) >= _THICK_A:
            return _plain(made, (True, True, False))
    return None


def stacking_fault(crystal: Atoms, structure: str, bonds: Bonds, most: int) -> Atoms | None:
    """Return a periodic cell with one fault: c is tilted so that its images meet shifted; None if there is no room.

    The shift is the one of a grid that brings atoms least near to each other without being a translation of the
    crystal; the fault is opened where they come too near all the same.
    """
    block = _block(crystal, _FAULT_PLANE.get(structure, (0, 0, 1)), most)
    if block is None:
        return None
    perfect = _fingerprint(block)
    best: tuple[float, Atoms] | None = None
    for i, j in ((i, j) for i in range(_GRID) for j in range(_GRID) if i or j):
        shift = (i * block.cell[0] + j * block.cell[1]) / _GRID
        tilted = block.copy()
        tilted.set_cell([block.cell[0], block.cell[1], block.cell[2] + shift])
        print_ = _fingerprint(tilted)
        if len(print_) == len(perfect) and np.allclose(print_, perfect, atol=0.02):
            continue
        room = _room(tilted, bonds)
        if best is None or room > best[0] + 1e-3:
            best = room, tilted
    return None if best is None else _opened(best[1], bonds)


def _block(crystal: Atoms, miller: Miller, most: int) -> Atoms | None:
    found = None
    for layers in range(2, 7):
        made = surface(crystal, miller, layers, periodic=True)
        if len(made) > most:
            break
        found = made
    return None if found is None else _plain(found, (True, True, True))


def _plain(atoms: Atoms, pbc: tuple[bool, bool, bool]) -> Atoms:
    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=pbc)


def _fingerprint(atoms: Atoms) -> FloatArray:
    """Return the sorted distances up to 5 A, by which a crystal is told from itself with a fault."""
    return np.sort(pairs(atoms, 5.0)[2])


def _room(atoms: Atoms, bonds: Bonds) -> float:
    """Return the smallest distance / bond."""
    symbols = atoms.get_chemical_symbols()
    first, second, distances = pairs(atoms, max(bonds.values()))
    return min(
        (float(d) / bonds[symbols[i], symbols[j]] for i, j, d in zip(first, second, distances, strict=True)),
        default=1.0,
    )


def _opened(atoms: Atoms, bonds: Bonds) -> Atoms | None:
    normal = np.cross(atoms.cell[0], atoms.cell[1])
    normal /= np.linalg.norm(normal)
    normal *= np.sign(normal @ atoms.cell[2])
    for gap in np.linspace(0.0, 1.5, 16):
        wider: Atoms = atoms.copy()
        wider.set_cell([atoms.cell[0], atoms.cell[1], atoms.cell[2] + gap * normal])
        if _room(wider, bonds) >= _TOUCHING:
            return wider
    return None
