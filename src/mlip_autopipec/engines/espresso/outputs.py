"""From the output of a converged pw.x to a label. Nothing is believed that was not said.

Read here and not by a library, because only these three blocks matter: a band structure that cannot be parsed must not
cost a label, and numbers that run into each other must not become one.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from mlip_autopipec.core.conventions import BOHR_A, RYDBERG_EV, stress_from_espresso, voigt_from_tensor
from mlip_autopipec.core.errors import OutputUnreadable
from mlip_autopipec.core.interfaces import FloatArray, Label
from mlip_autopipec.engines.espresso.failures import Report

_NUMBER = r"([-+]?\d+\.?\d*(?:[EeDd][-+]?\d+)?)"
_ENERGY = re.compile(r"^!\s+total energy\s+=(.*)Ry\s*$", re.MULTILINE)
_FORCES = re.compile(r"Forces acting on atoms \(cartesian axes, Ry/au\):\s*\n\s*\n((?:\s+atom .*\n)+)")
_FORCE = re.compile(r"^\s+atom\s+(\d+)\s+type\s+\d+\s+force =(.*)$", re.MULTILINE)
_STRESS = re.compile(r"total\s+stress\s+\(Ry/bohr\*\*3\).*\n((?:.*\n){3})")
# 6.x writes `atom: 1 charge: 8.5 magn: 0.7 constr: 0.0`, 7.x `atom 1 (R=0.357) charge= 8.5 magn= 0.7`.
_MOMENT = re.compile(rf"^\s+atom:?\s+\d+\s+(?:\(R=.*?\)\s+)?charge[:=]\s*\S+\s+magn[:=]\s*{_NUMBER}", re.MULTILINE)
_MAGNETIZATION = re.compile(rf"^\s+(total|absolute) magnetization\s+=\s+{_NUMBER}\s+Bohr", re.MULTILINE)
_PROCESSES = re.compile(r"Parallel version \(MPI[^\n]*running on\s+(\d+) proc")
_THREADS = re.compile(r"Serial multi-threaded version, running on\s+(\d+) proc")
_HINT = "look into the output in the attempt's folder"


def read_label(report: Report, n_atoms: int, *, stress: bool) -> Label:
    """Read the label of a run in which `classify` found nothing wrong.

    The energy is pw.x's F = E - TS, which its forces and stress are derivatives of.

    Raises
    ------
    OutputUnreadable
        Numbers are missing, not finite, or run into each other.
    """
    output = report.output
    energies = [_numbers(line, 1, "energy") for line in _ENERGY.findall(output)]
    if not energies:
        raise OutputUnreadable("pw.x's output has no total energy", _HINT)
    energy = float(energies[-1][0]) * RYDBERG_EV
    forces = _forces(output, n_atoms) * (RYDBERG_EV / BOHR_A)
    return Label(energy, forces, _stress(output) if stress else None, _info(report))


def _forces(output: str, n_atoms: int) -> FloatArray:
    """Return (N, 3), Ry/Bohr."""
    block = _FORCES.search(output)
    rows = _FORCE.findall(block[1]) if block else []
    if [int(number) for number, _ in rows] != list(range(1, n_atoms + 1)):
        raise OutputUnreadable(f"pw.x's output has forces of {len(rows)} atoms instead of {n_atoms}", _HINT)
    return np.array([_numbers(text, 3, "forces") for _, text in rows])


def _stress(output: str) -> FloatArray:
    """Return (6,), eV/A^3."""
    block = _STRESS.search(output)
    if block is None:
        raise OutputUnreadable("pw.x's output has no stress", _HINT)
    # The same in kbar stands in the other three columns.
    rows = [_numbers(line, 6, "stress")[:3] for line in block[1].splitlines()]
    return voigt_from_tensor(stress_from_espresso(np.array(rows)))


def _numbers(text: str, count: int, what: str) -> list[float]:
    words = text.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if len(values) != count or not np.isfinite(values).all():
        raise OutputUnreadable(f"pw.x's output: {what} cannot be read: {text.strip()!r}", _HINT)
    return values


def _info(report: Report) -> dict[str, Any]:
    """Return what the output says about how the label was made."""
    info: dict[str, Any] = {"seconds": round(report.ended.seconds, 2)}
    version = re.search(r"Program PWSCF\s+v\.(\S+)", report.output)
    iterations = re.search(r"convergence has been achieved in\s+(\d+) iterations", report.output)
    accuracy = re.findall(rf"estimated scf accuracy\s+<\s+{_NUMBER} Ry", report.output)
    moments = _MOMENT.findall(report.output[report.output.rfind("Magnetic moment per site") :])
    magnetization = dict(_MAGNETIZATION.findall(report.output))  # of the last iteration
    smearing = re.findall(rf"smearing contrib\. \(-TS\)\s*=\s*{_NUMBER} Ry", report.output)
    if version:
        info["program"] = f"pw.x {version[1]}"
    if iterations:
        info["scf_iterations"] = int(iterations[1])
    if accuracy:
        info["scf_accuracy_ry"] = float(accuracy[-1].replace("D", "E"))
    if moments:
        info["moments"] = [float(moment) for moment in moments]  # Bohr magnetons, in spheres around the atoms
    for kind, value in magnetization.items():
        info[f"{kind}_magnetization"] = float(value)  # Bohr magnetons per cell
    if smearing:
        info["smearing_energy_ev"] = float(smearing[-1]) * RYDBERG_EV
    return info


def cores_of(output: str) -> int:
    """Return how many processor cores pw.x ran on: processes times threads; 1 if it did not come so far."""
    found = _PROCESSES.search(output) or _THREADS.search(output)
    return int(found[1]) if found else 1
