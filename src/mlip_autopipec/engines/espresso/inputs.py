"""From a structure to pw.x's input file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.espresso import EspressoProfile, EspressoTemplate
from ase.data import atomic_numbers, ground_state_magnetic_moments

from mlip_autopipec.core.magnetism import alternating_signs
from mlip_autopipec.core.periodic import Job, isolated_job, periodic_job
from mlip_autopipec.engines.espresso.choices import Choices
from mlip_autopipec.engines.espresso.ladder import Scf
from mlip_autopipec.engines.espresso.scratch import PREFIX
from mlip_autopipec.engines.espresso.settings import EspressoSettings

# Starting magnetization of free atoms, as a fraction of their valence electrons; the SCF finds the moment. pw.x wants a
# start in any case.
_OPEN_SHELL = 0.5
_CLOSED_SHELL = 0.05
# Keys of &ELECTRONS that a rung may change, and settings only say where it begins.
_OF_LADDER = ("mixing_mode", "mixing_ndim", "diagonalization", "startingwfc")


def prepare(atoms: Atoms, settings: EspressoSettings) -> Job:
    """Give directions without period enough vacuum, and choose the k-points; raises as `periodic_job`."""
    return periodic_job(atoms, vacuum=settings.vacuum, kspacing=settings.kspacing)


def prepare_isolated(element: str, settings: EspressoSettings) -> Job:
    """One atom in a large box, at Gamma; with spin, it starts open-shelled if its ground state is.

    Elements whose moments vanish in solids, as oxygen, have no start there, and would stay unpolarised here.
    """
    is_open = ground_state_magnetic_moments[atomic_numbers[element]] > 0
    job = isolated_job(element, settings.isolated_box)
    return replace(job, magnetization=_OPEN_SHELL if is_open else _CLOSED_SHELL)


def write_input(
    job: Job,
    settings: EspressoSettings,
    choices: Choices,
    profile: EspressoProfile,
    folder: Path,
    *,
    scf: Scf,
    from_density: bool,
    outdir: str,
    max_seconds: float,
    leaves_density: bool = False,
) -> EspressoTemplate:
    """Write pw.x's input into `folder`; return ASE's template, which knows the file names.

    Parameters
    ----------
    scf
        What a rung of the ladder may have changed.
    from_density
        Start from the charge density in `outdir` instead of that of free atoms.
    leaves_density
        Leave the density in `outdir` also if the SCF converges, for a rung that goes on from it.
    """
    atoms = job.atoms.copy()
    if choices.nspin == 2:
        # ASE writes these as starting_magnetization, unchanged, with a species for each value.
        same = job.magnetization
        start = _moments(job.atoms, settings, choices) if same is None else np.full(len(atoms), same)
        atoms.set_initial_magnetic_moments(start)
    data = {
        "control": _control(outdir, max_seconds, leaves_density=leaves_density),
        "system": _system(job, settings, choices, scf),
        "electrons": _electrons(scf, settings, from_density=from_density),
    }
    if job.slab_axis is not None and settings.dipole is not False:
        data["control"] |= {"tefield": True, "dipfield": True}
        data["system"] |= _dipole(job.atoms, job.slab_axis)
    # pw.x can't do all stresses, and this one would not be read.
    data["control"]["tstress"] = job.stress
    template = EspressoTemplate()
    files = {element: file.file for element, file in choices.pseudopotentials.items()}
    parameters = {"input_data": data, "pseudopotentials": files, "kpts": job.kpoints}
    wanted = ["energy", "forces", "stress"] if job.stress else ["energy", "forces"]
    template.write_input(profile, folder, atoms, parameters, wanted)
    return template


def wanted_scf(settings: EspressoSettings) -> Scf:
    """Return the settings of the SCF before any rung changed them."""
    scf = Scf(
        electron_maxstep=settings.electron_maxstep,
        mixing_beta=settings.mixing_beta,
        degauss_ry=settings.degauss_ry,
        conv_thr_ry=settings.conv_thr_ry,
    )
    return replace(scf, **{key: value for key, value in _lower(settings.electrons).items() if key in _OF_LADDER})


def _control(outdir: str, max_seconds: float, *, leaves_density: bool) -> dict[str, Any]:
    return {
        "calculation": "scf",
        "tprnfor": True,
        "prefix": PREFIX,
        "outdir": outdir,
        # With "nowf" a run that converges leaves no density, but also no wave functions.
        "disk_io": "low" if leaves_density else "nowf",
        "max_seconds": max_seconds,
    }


def _system(job: Job, settings: EspressoSettings, choices: Choices, scf: Scf) -> dict[str, Any]:
    data: dict[str, Any] = {
        "ecutwfc": choices.ecutwfc_ry,
        "ecutrho": choices.ecutrho_ry,
        "occupations": "smearing",
        "smearing": settings.smearing,
        "degauss": scf.degauss_ry,
        "nspin": choices.nspin,
        **settings.system,
    }
    if scf.bands is not None:
        data["nbnd"] = scf.bands
    if settings.total_charge:
        data["tot_charge"] = settings.total_charge
    return data


def _lower(keys: Mapping[str, Any]) -> dict[str, Any]:
    return {key.lower(): value for key, value in keys.items()}


def _electrons(scf: Scf, settings: EspressoSettings, *, from_density: bool) -> dict[str, Any]:
    return {
        **_lower(settings.electrons),
        "conv_thr": scf.conv_thr_ry,
        "mixing_beta": scf.mixing_beta,
        "mixing_mode": scf.mixing_mode,
        "mixing_ndim": scf.mixing_ndim,
        "diagonalization": scf.diagonalization,
        "startingwfc": scf.startingwfc,
        "electron_maxstep": scf.electron_maxstep,
        **({"startingpot": "file"} if from_density else {}),
    }


def _moments(atoms: Atoms, settings: EspressoSettings, choices: Choices) -> np.ndarray:
    """Return (N,) the starting magnetization of each atom."""
    moments = np.array([choices.magnetization[s] for s in atoms.get_chemical_symbols()])
    if settings.magnetic_order == "antiferro":
        moments = moments * alternating_signs(atoms, moments != 0)
    return moments


def _dipole(atoms: Atoms, axis: int) -> dict[str, Any]:
    """Return the keys of the dipole correction, whose potential jumps in the middle of the vacuum."""
    heights = np.sort(atoms.get_scaled_positions(wrap=True)[:, axis])
    gaps = np.diff(np.append(heights, heights[0] + 1.0))
    widest = int(np.argmax(gaps))
    width = min(0.05, gaps[widest] / 4)
    top = (heights[widest] + gaps[widest] / 2 - width / 2) % 1.0
    return {"edir": axis + 1, "emaxpos": round(float(top), 4), "eopreg": round(float(width), 4), "eamp": 0.0}
