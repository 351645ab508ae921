"""From a structure to VASP's input files, written by ASE."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase.calculators.vasp import Vasp
from ase.config import ASEEnvDeprecationWarning

from mlip_autopipec.core.periodic import Job
from mlip_autopipec.engines.vasp.potcars import potcar_name
from mlip_autopipec.engines.vasp.settings import VaspSettings

_ISMEAR: Final = {"gaussian": 0, "methfessel-paxton": 1, "fermi-dirac": -1}


def write_input(job: Job, moments: np.ndarray | None, settings: VaspSettings, library: Path, folder: Path) -> list[int]:
    """Write INCAR, KPOINTS, POSCAR and POTCAR into `folder`.

    Parameters
    ----------
    moments
        (N,) Bohr magnetons that the SCF begins with; None: without spin.
    library
        Folder of POTCARs.

    Returns
    -------
    For each atom of `job` its place in VASP's files, which are sorted by element.
    """
    atoms = job.atoms.copy()
    if moments is not None:
        atoms.set_initial_magnetic_moments(moments)
    symbols = sorted(set(atoms.get_chemical_symbols()))
    with warnings.catch_warnings():
        # ASE looks at VASP_PP_PATH whatever it is told, and warns that it did.
        warnings.simplefilter("ignore", ASEEnvDeprecationWarning)
        calculator = Vasp(
            directory=str(folder),
            pp=str(library),
            setups={symbol: potcar_name(symbol, settings)[len(symbol) :] for symbol in symbols},
            **_parameters(job, moments, settings),
        )
        calculator.write_input(atoms)
    return [int(place) for place in calculator.resort]


def _parameters(job: Job, moments: np.ndarray | None, settings: VaspSettings) -> dict[str, Any]:
    """Return the keys of INCAR and KPOINTS, in ASE's names."""
    parameters: dict[str, Any] = {
        "prec": "Accurate",
        "encut": settings.encut_ev,
        "ediff": settings.ediff_ev,
        "nelm": settings.electron_maxstep,
        "algo": settings.algo,
        "ismear": _ISMEAR[settings.smearing],
        "sigma": settings.sigma_ev,
        "ispin": 1 if moments is None else 2,
        "nsw": 0,
        "ibrion": -1,
        "isif": 2,  # with stress
        "lreal": False,
        "lasph": True,  # gradient corrections within the spheres, else 3d and oxygen forces are off
        "lwave": False,
        "lcharg": False,
        "kpts": job.kpoints or (1, 1, 1),
        "gamma": True,
        **settings.incar,
    }
    # LDA is what POTCARs of that folder stand for by themselves.
    if settings.functional != "LDA":
        parameters["xc"] = settings.functional.lower()
    if moments is not None:
        parameters.setdefault("lorbit", 11)  # prints the moments of the atoms
    if settings.mixing_amix is not None:
        parameters["amix"] = settings.mixing_amix
    if settings.total_charge:
        parameters["charge"] = settings.total_charge
    if job.slab_axis is not None and settings.dipole is not False:
        parameters |= {"idipol": job.slab_axis + 1, "ldipol": True, "dipol": _middle(job, job.slab_axis)}
    return parameters


def _middle(job: Job, axis: int) -> list[float]:
    """Return the scaled coordinates of the slab's middle: the potential jumps half a cell away from it."""
    scaled = job.atoms.get_scaled_positions(wrap=True)
    heights = np.sort(scaled[:, axis])
    gaps = np.diff(np.append(heights, heights[0] + 1.0))
    middle = [0.5, 0.5, 0.5]
    middle[axis] = round(float((heights[int(np.argmax(gaps))] + gaps.max() / 2 + 0.5) % 1.0), 4)
    return middle
