"""Structures for descriptors, and dscribe's SOAP of them."""

from __future__ import annotations

import warnings

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.cluster import Octahedron

from mlip_autopipec.sampling.soap.settings import SoapSettings


def rattled(atoms: Atoms, seed: int = 0, size: float = 0.08) -> Atoms:
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(0.0, size, atoms.positions.shape)
    return atoms


def al2cu() -> Atoms:
    """The C16 phase (I4/mcm): Cu at 4a, Al at 8h."""
    a, c, x = 6.067, 4.877, 0.1581
    places = [(0, 0, 0.25), (0, 0, 0.75), (0.5, 0.5, 0.25), (0.5, 0.5, 0.75)]
    places += [(x, x + 0.5, 0), (-x, 0.5 - x, 0), (0.5 - x, x, 0), (x + 0.5, -x, 0)]
    places += [((u + 0.5) % 1, (v + 0.5) % 1, 0.5) for u, v, _ in places[4:8]]
    return Atoms("Cu4Al8", scaled_positions=places, cell=[a, a, c], pbc=True)


def water() -> Atoms:
    """Three molecules without a cell."""
    atoms = molecule("H2O")
    for shift in ((2.9, 0.3, 0.1), (-0.4, 2.8, 1.0)):
        other = molecule("H2O")
        other.rotate(70.0, "x")
        other.translate(shift)
        atoms += other
    return atoms


def slab() -> Atoms:
    atoms = fcc111("Cu", (2, 2, 4), vacuum=6.0)
    atoms.pbc = [True, True, False]
    return atoms


STRUCTURES = {
    "Si": lambda: rattled(bulk("Si").repeat((2, 1, 1))),
    "Si, perfect": lambda: bulk("Si", cubic=True),
    "NaCl": lambda: rattled(bulk("NaCl", "rocksalt", a=5.64)),
    "Al2Cu": lambda: rattled(al2cu()),
    "water": water,
    "slab": lambda: rattled(slab()),
    "cluster": lambda: rattled(Octahedron("Cu", 4, 1)),
}


def settings_for(atoms: Atoms, **changes: object) -> SoapSettings:
    return SoapSettings(tuple(sorted(set(atoms.get_chemical_symbols()))), **changes)


def dscribe_soap(settings: SoapSettings, atoms: Atoms, average: str = "off") -> np.ndarray:
    """Return what dscribe says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dscribe.descriptors import SOAP

        descriptor = SOAP(
            species=list(settings.species),
            r_cut=settings.r_cut,
            n_max=settings.n_max,
            l_max=settings.l_max,
            sigma=settings.sigma,
            rbf="gto",
            periodic=bool(atoms.pbc.any()),
            average=average,
            dtype="float64",
        )
        return np.asarray(descriptor.create(atoms))


def distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference of two rows, relative to the norm of the second."""
    ours, theirs = np.atleast_2d(ours), np.atleast_2d(theirs)
    return float((np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)).max())
