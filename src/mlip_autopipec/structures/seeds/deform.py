"""Crystals under strain and heat: volumes for the equation of state, strains for elasticity, random displacements."""

from __future__ import annotations

from typing import Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.interfaces import FloatArray

# Volume / that of the crystal: wide enough for +-30 GPa in hard and +-5 GPa in soft metals, narrow enough for bonds.
_VOLUMES: Final = (0.84, 1.18)
_VOIGT: Final = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


def volumes(crystal: Atoms, count: int, limits: tuple[float, float] = _VOLUMES) -> list[Atoms]:
    """Return `count` copies with volumes evenly spaced over the factors `limits`, shape and fractions kept."""
    return [scaled(crystal, float(f)) for f in np.linspace(*limits, count)]


def scaled(atoms: Atoms, factor: float) -> Atoms:
    """Return a copy whose volume is `factor` times as large."""
    copy: Atoms = atoms.copy()
    copy.set_cell(copy.cell * factor ** (1.0 / 3.0), scale_atoms=True)
    return copy


def sheared(crystal: Atoms, component: int, strain: float) -> Atoms:
    """Return a copy with one strain component (ASE's Voigt order: xx, yy, zz, yz, xz, xy), dimensionless.

    A shear keeps the volume; `strain` is the tensor's element, half of the engineering shear.
    """
    i, j = _VOIGT[component]
    tensor = np.eye(3)
    tensor[i, j] += strain
    tensor[j, i] += strain if i != j else 0.0
    return _strained(crystal, tensor if i == j else tensor / np.linalg.det(tensor) ** (1.0 / 3.0))


def rattled(atoms: Atoms, rng: np.random.Generator, amplitude: float, strain: float) -> Atoms:
    """Return a copy with random displacements and a random strain.

    Parameters
    ----------
    amplitude
        A, standard deviation of each coordinate.
    strain
        Largest element of the random symmetric strain tensor, dimensionless.
    """
    tensor = rng.uniform(-strain, strain, (3, 3))
    copy = _strained(atoms, np.eye(3) + (tensor + tensor.T) / 2.0)
    copy.positions += rng.normal(0.0, amplitude, copy.positions.shape)
    return copy


def _strained(atoms: Atoms, tensor: FloatArray) -> Atoms:
    copy: Atoms = atoms.copy()
    copy.set_cell(np.asarray(copy.cell[:]) @ tensor, scale_atoms=True)
    return copy
