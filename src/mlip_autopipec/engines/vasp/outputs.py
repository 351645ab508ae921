"""From VASP's files to a label, read by ASE. Nothing is believed that the two files do not both say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from mlip_autopipec.core.errors import OutputUnreadable
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.engines.vasp.failures import Report

_TOTEN = re.compile(r"free\s+energy\s+TOTEN\s*=\s*(\S+)\s*eV")
_MOMENTS = re.compile(r"magnetization \(x\)\s*\n\s*\n.*\n-+\s*\n((?:\s*\d+ .*\n)+)")
_MAGNETIZATION = re.compile(r"number of electron\s+\S+\s+magnetization\s+(\S+)")
_CORES = re.compile(r"running on\s+(\d+)\s+total cores")
_HINT = "look into vasprun.xml and OUTCAR in the attempt's folder"
# OUTCAR and vasprun.xml print the same number with different digits.
_SAME_EV = 1e-4


def read_label(folder: Path, report: Report, places: list[int], *, stress: bool) -> Label:
    """Read the label of a run in which `classify` found nothing wrong.

    The energy is VASP's free energy F = E - TS (TOTEN), which its forces and stress are derivatives of, and not the
    value extrapolated to zero smearing.

    Parameters
    ----------
    places
        For each atom its place in VASP's files.

    Raises
    ------
    OutputUnreadable
        Numbers are missing or not finite, or OUTCAR says another energy.
    """
    results = _results(folder / "vasprun.xml")
    energy, forces = float(results["free_energy"]), np.asarray(results["forces"], dtype=float)
    if forces.shape != (len(places), 3):
        raise OutputUnreadable(f"vasprun.xml has forces of {len(forces)} atoms instead of {len(places)}", _HINT)
    tensor = results.get("stress") if stress else None
    if stress and tensor is None:
        raise OutputUnreadable("vasprun.xml has no stress", _HINT)
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise OutputUnreadable("vasprun.xml: energy or forces are not finite", _HINT)
    _compare(energy, report.outcar)
    return Label(
        energy,
        forces[places],
        None if tensor is None else np.asarray(tensor, dtype=float),
        _info(results, report, places),
    )


def _results(path: Path) -> dict[str, Any]:
    try:
        atoms = ase.io.read(path, index=-1, format="vasp-xml")
        results: dict[str, Any] = atoms.calc.results  # type: ignore[union-attr]
        if any(results.get(name) is None for name in ("free_energy", "forces")):
            raise ValueError("no energy or forces")
    # A file that ends early breaks ASE's reader in as many ways as it has lines.
    except Exception as error:
        raise OutputUnreadable(f"vasprun.xml cannot be read: {type(error).__name__}: {error}", _HINT) from error
    return results


def _compare(energy: float, outcar: str) -> None:
    """Refuse files that are not of the same run."""
    found = _TOTEN.findall(outcar)
    try:
        said = float(found[-1])
    except (IndexError, ValueError) as error:
        raise OutputUnreadable("OUTCAR has no free energy TOTEN", _HINT) from error
    if abs(said - energy) > _SAME_EV:
        raise OutputUnreadable(f"OUTCAR says a free energy of {said} eV, vasprun.xml {energy} eV", _HINT)


def _info(results: dict[str, Any], report: Report, places: list[int]) -> dict[str, Any]:
    version = re.search(r"^\s*vasp\.(\S+)", report.outcar, re.MULTILINE)
    info: dict[str, Any] = {
        "engine": "vasp",
        "program": f"vasp {version[1]}" if version else "vasp",
        "seconds": round(report.ended.seconds, 2),
        "cores": int(cores[1]) if (cores := _CORES.search(report.output) or _CORES.search(report.outcar)) else 1,
        "scf_iterations": report.iterations,
        "energy_sigma0_ev": float(results["energy"]),  # what ASE calls the energy: not what forces are derivatives of
    }
    tables = _MOMENTS.findall(report.outcar)
    magnetization = _MAGNETIZATION.findall(report.outcar)
    if magnetization:
        info["total_magnetization"] = float(magnetization[-1])  # Bohr magnetons per cell
    if tables:
        moments = [float(row.split()[-1]) for row in tables[-1].splitlines()]
        if len(moments) == len(places):
            info["moments"] = [moments[place] for place in places]  # Bohr magnetons, in spheres around the atoms
    return info
