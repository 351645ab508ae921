"""Is a seed worth DFT: are its atoms apart, is it as dense as matter, is it unlike the seeds before it?"""

from __future__ import annotations

from typing import Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.structures.seeds.contacts import closeness, pairs

# Shortest distance / sum of the covalent radii. Tungsten's bonds are 0.85 of them; MD calls 0.5 senseless.
CLOSEST: Final = 0.60
CLOSEST_OF_CLUSTERS: Final = 0.50
# Volume per atom / that of the material's first crystal: diamond under pressure 0.72, hot ionic liquids 1.4.
VOLUMES: Final = (0.5, 1.7)
MOST_ATOMS: Final = 64
_OPEN: Final = ("dimer", "trimer", "surface")
# Two seeds are one if no distance shell differs by more: far below what an SCF tells apart.
_BINS: Final = np.arange(0.5, 6.05, 0.05)
_WIDTH_A: Final = 0.05
_SAME: Final = 0.003


def wrong_with(atoms: Atoms, config_type: str, volume_per_atom: float) -> str:
    """Return why a seed is refused; empty if it is sane.

    Parameters
    ----------
    volume_per_atom
        A^3, of the material's first crystal.
    """
    if not 1 <= len(atoms) <= MOST_ATOMS:
        return f"{len(atoms)} atoms, of at most {MOST_ATOMS}"
    if not (np.isfinite(atoms.positions).all() and np.isfinite(np.asarray(atoms.cell)).all()):
        return "a position or cell vector is not finite"
    limit = CLOSEST_OF_CLUSTERS if config_type in ("dimer", "trimer") else CLOSEST
    if (ratio := closeness(atoms)) < limit:
        return f"two atoms at {ratio:.2f} of their covalent radii, nearer than {limit:g}"
    if config_type not in _OPEN and atoms.pbc.all():
        volume = atoms.get_volume() / len(atoms) / volume_per_atom
        if not VOLUMES[0] <= volume <= VOLUMES[1]:
            return f"{volume:.2f} of the crystal's volume per atom, outside {VOLUMES[0]:g} to {VOLUMES[1]:g}"
    return ""


class Distinct:
    """Knows the structures so far by what does not depend on order, origin, rotation and choice of cell."""

    def __init__(self) -> None:
        self._known: list[tuple[tuple[tuple[int, float], ...], FloatArray]] = []

    def is_new(self, atoms: Atoms) -> bool:
        """Remember a structure; False if it is one of those before."""
        name, shells = _composition(atoms), fingerprint(atoms)
        for other, known in self._known:
            if other == name and np.abs(known - shells).max() < _SAME:
                return False
        self._known.append((name, shells))
        return True


def fingerprint(atoms: Atoms) -> FloatArray:
    """Return the smeared number of neighbours at each distance by pair of elements, per atom; volume at the end."""
    first, second, distances = pairs(atoms, float(_BINS[-1]))
    numbers = np.unique(atoms.numbers)
    kinds = np.searchsorted(numbers, atoms.numbers)
    shells = np.zeros((len(numbers), len(numbers), len(_BINS)))
    if len(distances):
        # Far shells hold many atoms: each counts by its distance, so that no shell decides alone.
        weights = np.exp(-0.5 * ((distances[:, None] - _BINS) / _WIDTH_A) ** 2) / (distances[:, None] ** 2)
        np.add.at(shells, (kinds[first], kinds[second]), weights)
    volume = atoms.get_volume() / len(atoms) if atoms.pbc.all() else 0.0
    return np.append(shells.ravel() / len(atoms), 0.1 * volume)


def _composition(atoms: Atoms) -> tuple[tuple[int, float], ...]:
    numbers, counts = np.unique(atoms.numbers, return_counts=True)
    # Clusters are told apart from crystals by what is periodic.
    shares = [(int(z), round(float(n) / len(atoms), 6)) for z, n in zip(numbers, counts, strict=True)]
    return (*shares, (0, float(np.sum(atoms.pbc))))
