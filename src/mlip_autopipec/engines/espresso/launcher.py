"""The command that starts pw.x on this node: is it there, is it the right MPI's, and how many processes it asks for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mlip_autopipec.core import launcher as core

_LAUNCHERS = ("mpirun", "mpiexec", "orterun", "srun", "prun")
_COUNT_OPTIONS = ("-np", "-n", "--np", "--ntasks")
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


def processes_run(output: str) -> tuple[int, int]:
    """Return how many programs wrote into an output, and how many MPI processes the first of them had."""
    counts = [found[1] for pattern in _PROCESSES if (found := pattern.search(output))]
    return len(_STARTS.findall(output)), int(counts[0]) if counts else 1
