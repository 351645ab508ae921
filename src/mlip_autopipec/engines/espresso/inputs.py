"""From a structure to pw.x's input file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.espresso import EspressoProfile, EspressoTemplate
from vesin import NeighborList

from mlip_autopipec.core.errors import ConfigError, DataError
from mlip_autopipec.engines.espresso.ladder import Scf
from mlip_autopipec.engines.espresso.pseudopotentials import Pseudopotential
from mlip_autopipec.engines.espresso.scratch import PREFIX
from mlip_autopipec.engines.espresso.settings import EspressoSettings

# Below this (A) pw.x ends with exit code 0 and forces that overflow their columns.
SHORTEST_DISTANCE_A = 0.5


@dataclass(frozen=True)
class Job:
    """One pw.x calculation: a fully periodic structure and its k-point grid (None: Gamma alone)."""

    atoms: Atoms
    kpoints: tuple[int, int, int] | None


def prepare(atoms: Atoms, settings: EspressoSettings) -> Job:
    """Give directions without period enough vacuum, and choose the k-points.

    Raises
    ------
    DataError
        Two atoms are nearer than 0.5 A.
    ConfigError
        There is no pseudopotential for an element.
    """
    require_pseudopotentials(atoms.get_chemical_symbols(), settings)
    # Built anew: initial magnetic moments or constraints of the caller's atoms would change the input.
    plain = Atoms(atoms.numbers, positions=atoms.positions, cell=_with_vacuum(atoms, settings.vacuum), pbc=True)
    _refuse_overlaps(plain)
    return Job(plain, _kpoints(plain, atoms.pbc, settings.kspacing))


def require_pseudopotentials(symbols: Collection[str], settings: EspressoSettings) -> None:
    """Raise `ConfigError` if there is no pseudopotential for one of these elements."""
    missing = sorted(set(symbols) - set(settings.pseudopotentials))
    if missing:
        raise ConfigError(
            f"labeller.pseudopotentials: has nothing for {', '.join(missing)}",
            f"add a line '{missing[0]}: <file name>'",
        )


def prepare_isolated(element: str, settings: EspressoSettings) -> Job:
    """One atom in a large box, at Gamma."""
    edge = settings.isolated_box
    job = prepare(Atoms(element, positions=[[edge / 2] * 3], cell=[edge] * 3, pbc=True), settings)
    return Job(job.atoms, None)


def _with_vacuum(atoms: Atoms, vacuum: float) -> np.ndarray:
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


def _refuse_overlaps(atoms: Atoms) -> None:
    pairs = NeighborList(cutoff=SHORTEST_DISTANCE_A, full_list=False)
    first, second, distances = pairs.compute(atoms.positions, atoms.cell[:], True, "ijd")
    if len(first):
        k = int(np.argmin(distances))
        raise DataError(
            f"structure: atoms {first[k]} and {second[k]} are {distances[k]:.3f} A apart; pw.x would return nonsense",
            f"structures with pairs below {SHORTEST_DISTANCE_A} A are refused",
        )


def _kpoints(atoms: Atoms, pbc: np.ndarray, spacing: float) -> tuple[int, int, int] | None:
    """Return the grid whose points are at most `spacing` (1/A, 2 pi included) apart; None if that is Gamma alone."""
    lengths = 2 * np.pi * np.linalg.norm(atoms.cell.reciprocal()[:], axis=1)
    # The small number keeps a cell that divides evenly from jumping to the next grid by rounding noise.
    counts = np.where(pbc, np.ceil(lengths / spacing - 1e-6), 1).astype(int)
    counts = np.maximum(counts, 1)
    return None if np.all(counts == 1) else (int(counts[0]), int(counts[1]), int(counts[2]))


def write_input(
    job: Job,
    settings: EspressoSettings,
    profile: EspressoProfile,
    folder: Path,
    *,
    scf: Scf,
    from_density: bool,
    outdir: str,
    max_seconds: float,
    pseudopotentials: Mapping[str, Pseudopotential],
) -> EspressoTemplate:
    """Write pw.x's input into `folder`; return ASE's template, which knows the file names.

    Parameters
    ----------
    scf
        What a rung of the ladder may have changed.
    from_density
        Start from the charge density in `outdir` instead of that of free atoms.
    """
    atoms = job.atoms.copy()
    if settings.nspin == 2:
        # ASE writes these as starting_magnetization, unchanged.
        atoms.set_initial_magnetic_moments([settings.starting_magnetization[s] for s in atoms.get_chemical_symbols()])
    template = EspressoTemplate()
    data = _namelists(settings, scf, outdir, max_seconds, density_cutoff(settings, pseudopotentials))
    if from_density:
        data["electrons"]["startingpot"] = "file"
    parameters = {"input_data": data, "pseudopotentials": dict(settings.pseudopotentials), "kpts": job.kpoints}
    template.write_input(profile, folder, atoms, parameters, ["energy", "forces", "stress"])
    return template


def density_cutoff(settings: EspressoSettings, pseudopotentials: Mapping[str, Pseudopotential]) -> float:
    """Return ecutrho, Ry; it depends on all pseudopotentials of a run, so that all labels have the same."""
    if settings.ecutrho_ry is not None:
        return settings.ecutrho_ry
    return settings.ecutwfc_ry * (8.0 if any(p.is_soft for p in pseudopotentials.values()) else 4.0)


def wanted_scf(settings: EspressoSettings) -> Scf:
    """Return the settings of the SCF before any rung changed them."""
    return Scf(
        electron_maxstep=settings.electron_maxstep,
        mixing_beta=settings.mixing_beta,
        degauss_ry=settings.degauss_ry,
        conv_thr_ry=settings.conv_thr_ry,
    )


def _namelists(
    settings: EspressoSettings, scf: Scf, outdir: str, max_seconds: float, ecutrho: float
) -> dict[str, dict[str, Any]]:
    data: dict[str, dict[str, Any]] = {
        "control": {
            "calculation": "scf",
            "tprnfor": True,
            "tstress": True,
            "prefix": PREFIX,
            "outdir": outdir,
            # With "nowf" a run that converges leaves no density, which the step back to the wanted smearing needs.
            "disk_io": "nowf" if scf.degauss_ry == settings.degauss_ry else "low",
            "max_seconds": max_seconds,
        },
        "system": {
            "ecutwfc": settings.ecutwfc_ry,
            "ecutrho": ecutrho,
            "occupations": "smearing",
            "smearing": settings.smearing,
            "degauss": scf.degauss_ry,
            "nspin": settings.nspin,
        },
        "electrons": {
            "conv_thr": scf.conv_thr_ry,
            "mixing_beta": scf.mixing_beta,
            "mixing_mode": scf.mixing_mode,
            "mixing_ndim": scf.mixing_ndim,
            "diagonalization": scf.diagonalization,
            "startingwfc": scf.startingwfc,
            "electron_maxstep": scf.electron_maxstep,
        },
    }
    if scf.bands is not None:
        data["system"]["nbnd"] = scf.bands
    return data
