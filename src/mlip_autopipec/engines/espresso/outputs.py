"""From pw.x's output to a label, or to the reason why there is none. Nothing is believed that was not said."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.espresso import EspressoTemplate

from mlip_autopipec.core.conventions import RYDBERG_EV
from mlip_autopipec.core.errors import (
    AutopipeError,
    ConfigError,
    Crashed,
    NotConverged,
    OutputUnreadable,
    TimedOut,
)
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.engines.espresso.process import Ended

_NUMBER = r"([-+]?\d+\.?\d*(?:[EeDd][-+]?\d+)?)"
_BOX = re.compile(r"Error in routine\s+(\S+)\s+\(\s*(-?\d+)\s*\):\s*\n\s*(.*)")
_CRASH = re.compile(r"from\s+(\S+)\s*:\s*error #\s*(-?\d+)\s*\n\s*(.*)")
# pw.x's routines that read input and pseudopotentials: the settings are wrong, and so will be the next attempt.
_INPUT_ROUTINE = re.compile(
    r"readpp|iosys|.*checkin|read_.*|card_.*|set_dft.*|upf.*|.*_input|.*input_file", re.IGNORECASE
)


@dataclass(frozen=True)
class Report:
    """What pw.x left behind: how it ended, its output, its error output and its CRASH file."""

    ended: Ended
    output: str
    error: str
    crash: str

    @classmethod
    def of(cls, folder: Path, template: EspressoTemplate, ended: Ended) -> Report:
        names = (template.outputname, template.errorname, "CRASH")
        return cls(ended, *(_text(folder / name) for name in names))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def failure(report: Report) -> AutopipeError | None:
    """Return why there is no label, or None if pw.x says that there is one.

    The order matters: a run that did not converge has exit code 2 *and* prints JOB DONE.
    """
    ended, output = report.ended, report.output
    if ended.overran:
        return TimedOut(
            f"pw.x was killed after {ended.seconds:.0f} s", "raise node.espresso.max_seconds, or carve smaller cells"
        )
    if "Maximum CPU time exceeded" in output:
        return TimedOut(
            f"pw.x stopped at its time limit after {ended.seconds:.0f} s, {_progress(output)}",
            "raise node.espresso.max_seconds, or carve smaller cells",
        )
    if "convergence NOT achieved" in output:
        return NotConverged(
            f"SCF did not converge, {_progress(output)}",
            "lower labeller.mixing_beta, raise labeller.electron_maxstep or labeller.degauss_ry",
        )
    box = _CRASH.search(report.crash) or _BOX.search(output)
    if box:
        return _from_box(box[1], box[2], box[3].strip())
    if ended.code != 0 or "JOB DONE" not in output:
        return _from_exit(report)
    if "convergence has been achieved" not in output:
        return OutputUnreadable("pw.x ended, but does not say that the SCF converged", "look into its output")
    return None


def _from_box(routine: str, number: str, text: str) -> AutopipeError:
    message = f"pw.x: {routine} ({number}): {text or 'no reason given'}"
    if _INPUT_ROUTINE.fullmatch(routine):
        return ConfigError(message, "pw.x refuses its input: check the labeller section and the pseudopotentials")
    return Crashed(message, "its input and output are kept in the attempt's folder")


def _from_exit(report: Report) -> AutopipeError:
    code = report.ended.code
    said = " ".join((report.error.strip() or report.output.strip()).splitlines()[-3:]).strip()[-300:]
    if code < 0:
        hint = "signal 9 is often the kernel short of memory: fewer atoms per cell or more memory" if code == -9 else ""
        return Crashed(f"pw.x was killed by signal {-code}", hint or "it may work when tried again", transient=True)
    if code in (126, 127):
        return ConfigError(f"pw.x could not be started: {said}", "correct node.espresso.command")
    how = f"ended with exit code {code}" if code else "ended without JOB DONE"
    return Crashed(
        f"pw.x {how}: {said or 'it said nothing'}", "its output is kept in the attempt's folder", transient=True
    )


def _progress(output: str) -> str:
    iterations = len(re.findall(r"^\s*iteration #", output, re.MULTILINE))
    accuracy = re.findall(rf"estimated scf accuracy\s+<\s+{_NUMBER} Ry", output)
    return f"{iterations} iterations, last estimated error {accuracy[-1] if accuracy else '?'} Ry"


def read_label(folder: Path, template: EspressoTemplate, report: Report, n_atoms: int, *, stress: bool) -> Label:
    """Read the label of a run in which `failure` found nothing wrong.

    Raises
    ------
    OutputUnreadable
        Numbers are missing, not finite, or run into each other.
    """
    hint = "look into the output in the attempt's folder"
    try:
        results = template.read_results(folder)
    except Exception as error:  # ASE's reader ends with whatever its line splitting meets
        raise OutputUnreadable(f"pw.x's output cannot be read: {type(error).__name__}: {error}", hint) from error
    missing = [key for key in ("free_energy", "forces", "stress") if results.get(key) is None]
    if missing:
        raise OutputUnreadable(f"pw.x's output has no {', '.join(missing)}", hint)
    energy, forces = float(results["free_energy"]), np.array(results["forces"], dtype=float)
    tensor = np.array(results["stress"], dtype=float)
    if forces.shape != (n_atoms, 3):
        raise OutputUnreadable(f"pw.x's output has forces of shape {forces.shape} for {n_atoms} atoms", hint)
    if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(tensor).all()):
        raise OutputUnreadable("pw.x's output has numbers that are not finite", hint)
    return Label(energy, forces, tensor if stress else None, _info(report))


def _info(report: Report) -> dict[str, Any]:
    """Return what the output says about how the label was made."""
    info: dict[str, Any] = {"seconds": round(report.ended.seconds, 2)}
    version = re.search(r"Program PWSCF\s+v\.(\S+)", report.output)
    iterations = re.search(r"convergence has been achieved in\s+(\d+) iterations", report.output)
    accuracy = re.findall(rf"estimated scf accuracy\s+<\s+{_NUMBER} Ry", report.output)
    smearing = re.findall(rf"smearing contrib\. \(-TS\)\s*=\s*{_NUMBER} Ry", report.output)
    if version:
        info["program"] = f"pw.x {version[1]}"
    if iterations:
        info["scf_iterations"] = int(iterations[1])
    if accuracy:
        info["scf_accuracy_ry"] = float(accuracy[-1].replace("D", "E"))
    if smearing:
        info["smearing_energy_ev"] = float(smearing[-1]) * RYDBERG_EV
    return info
