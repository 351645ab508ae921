"""The command that starts pw.x on this node: is it there, is it the right MPI's, and how many processes it asks for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mlip_autopipec.core import launcher as core

_LAUNCHERS = ("mpirun", "mpiexec", "orterun", "srun", "prun")
_COUNT_OPTIONS = ("-np", "-n", "--np", "--ntasks")
_REFERENCE_BLAS = re.compile(r"/libblas\.so\.\d+\.[\d.]+$")
_STARTS = re.compile(r"^\s*Program PWSCF", re.MULTILINE)
# "running on 4 processor cores" counts threads as well; the line with MPI processes comes below it.
_PROCESSES = (
    re.compile(r"Number of MPI processes:\s*(\d+)"),
    re.compile(r"Parallel version \(MPI\), running on\s+(\d+) processor"),
)


def check_launcher(command: Sequence[str]) -> str:
    """Return the path of the program that comes first; raises as `core.launcher.check_launcher`."""
    hint = "install Quantum ESPRESSO (Debian: quantum-espresso) or give the path of pw.x"
    return core.check_launcher(command, key="node.espresso.command", program="pw.x", hint=hint)


def has_launcher(command: Sequence[str]) -> bool:
    """True if a launcher of MPI stands before pw.x."""
    return bool(command) and Path(command[0]).name.split(".")[0] in _LAUNCHERS


def processes_asked(command: Sequence[str]) -> int | None:
    """Return the number of MPI processes that the command names; 1 without a launcher, None if it leaves it open."""
    if not has_launcher(command):
        return 1
    for option, value in pairwise(command):
        if option in _COUNT_OPTIONS and value.isdigit():
            return int(value)
    for word in command:
        name, _, value = word.partition("=")
        if name in _COUNT_OPTIONS and value.isdigit():
            return int(value)
    return None


def reference_blas(command: Sequence[str]) -> str:
    """Return the library if pw.x computes with the BLAS that was written to be read; empty if not, or unknown."""
    programs = (shutil.which(word) for word in command if Path(word).name.startswith("pw"))
    program = next((found for found in programs if found), None)
    if program is None or shutil.which("ldd") is None:
        return ""
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    libraries = [os.path.realpath(path) for path in re.findall(r"libblas\S* => (\S+)", told)]
    # What only stands in for it (OpenBLAS, BLIS) has no version of its own; ATLAS has.
    return next((path for path in libraries if _REFERENCE_BLAS.search(path) and "/atlas/" not in path), "")


def processes_run(output: str) -> tuple[int, int]:
    """Return how many programs wrote into an output, and how many MPI processes the first of them had."""
    counts = [found[1] for pattern in _PROCESSES if (found := pattern.search(output))]
    return len(_STARTS.findall(output)), int(counts[0]) if counts else 1
