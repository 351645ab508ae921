"""A structure as a plane-wave code wants it: fully periodic, with a k-point grid; the same for every DFT engine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from vesin import NeighborList

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import FloatArray

# Below this (A) programs end with success and nonsense: pw.x with exit code 0 and forces that overflow their columns.
SHORTEST_DISTANCE_A = 0.5


@dataclass(frozen=True)
class Job:
    """One calculation of energy, forces and stress.

    Attributes
    ----------
    atoms : fully periodic
    kpoints : grid that contains Gamma; None: Gamma alone
    stress : whether the stress means anything: not with an open direction
    slab_axis : the only direction without period, for the dipole correction; None: there is none, or several
    magnetization : starting magnetization of all atoms, as a fraction of their valence electrons; None: that of the
        run's elements
    """

    atoms: Atoms
    kpoints: tuple[int, int, int] | None
    stress: bool = True
    slab_axis: int | None = None
    magnetization: float | None = None


def periodic_job(atoms: Atoms, *, vacuum: float, kspacing: float) -> Job:
    """Give directions without period enough vacuum, and choose the k-points.

    Parameters
    ----------
    vacuum
        A, along directions without period.
    kspacing
        1/A with 2 pi included, largest distance of k-points.

    Raises
    ------
    DataError
        Two atoms are nearer than 0.5 A, or the cell has no volume.
    """
    # Built anew: initial magnetic moments or constraints of the caller's atoms would change the input.
    plain = Atoms(atoms.numbers, positions=atoms.positions, cell=_with_vacuum(atoms, vacuum), pbc=True)
    refuse_overlaps(plain)
    is_slab = int(np.sum(atoms.pbc)) == 2
    return Job(
        plain,
        _kpoints(plain, atoms.pbc, kspacing),
        stress=bool(atoms.pbc.all()),
        slab_axis=int(np.flatnonzero(~atoms.pbc)[0]) if is_slab else None,
    )


def isolated_job(element: str, edge: float) -> Job:
    """Return one atom in a cubic box of `edge` A, at Gamma."""
    atoms = Atoms(element, positions=[[edge / 2] * 3], cell=[edge] * 3, pbc=True)
    return Job(atoms, None, stress=False)


def refuse_overlaps(atoms: Atoms) -> None:
    """Raise `DataError` if two atoms of a fully periodic structure are nearer than 0.5 A."""
    pairs = NeighborList(cutoff=SHORTEST_DISTANCE_A, full_list=False)
    first, second, distances = pairs.compute(atoms.positions, atoms.cell[:], True, "ijd")
    if len(first):
        k = int(np.argmin(distances))
        raise DataError(
            f"structure: atoms {first[k]} and {second[k]} are {distances[k]:.3f} A apart; DFT would return nonsense",
            f"structures with pairs below {SHORTEST_DISTANCE_A} A are refused",
        )


def _with_vacuum(atoms: Atoms, vacuum: float) -> FloatArray:
    """Return (3, 3) A: the cell with its open directions high enough for the atoms and `vacuum`."""
    cell = atoms.cell.complete()[:]
    if abs(np.linalg.det(cell)) < 1e-6:
        raise DataError("structure: its cell has no volume", "correct the cell or pbc")
    for axis in np.flatnonzero(~atoms.pbc):
        normal = np.linalg.inv(cell)[:, axis]
        height = 1.0 / np.linalg.norm(normal)
        wanted = np.ptp(atoms.positions @ normal) * height + vacuum
        cell[axis] *= max(1.0, wanted / height)
    return np.asarray(cell)


def _kpoints(atoms: Atoms, pbc: np.ndarray, spacing: float) -> tuple[int, int, int] | None:
    """Return the grid whose points are at most `spacing` (1/A, 2 pi included) apart; None if that is Gamma alone."""
    lengths = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal()[:], axis=1)
    # The small number keeps a cell that divides evenly from jumping to the next grid by rounding noise.
    counts = np.where(pbc, np.ceil(lengths / spacing - 1e-6), 1).astype(int)
    counts = np.maximum(counts, 1)
    return None if np.all(counts == 1) else (int(counts[0]), int(counts[1]), int(counts[2]))
