"""Every way in which a calculator of ASE ends without a label, as an error of the house."""

from __future__ import annotations

import errno
import subprocess
from typing import Final

from ase.calculators import calculator as ase

from mlip_autopipec.core.errors import (
    AutopipeError,
    ConfigError,
    Crashed,
    DataError,
    NotConverged,
    OutputUnreadable,
    TimedOut,
)

_KEPT: Final = "what it wrote is kept in the attempt's folder"
_SETTINGS: Final = "check labeller.calculator and labeller.kwargs"
_SLOWER: Final = "change mixing, smearing or the number of steps in labeller.kwargs"


def error_of(error: Exception, name: str) -> AutopipeError:
    """Return the error of the house for what the calculator `name` raised while it computed."""
    said = f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if isinstance(error, AutopipeError):
        return error
    # ASE has a name for it; others call their exception so.
    if isinstance(error, ase.SCFError) or "Convergence" in type(error).__name__:
        return NotConverged(said, _SLOWER)
    if isinstance(error, TimeoutError | subprocess.TimeoutExpired):
        return TimedOut(said, "raise the limit in labeller.kwargs, or carve smaller cells")
    if isinstance(error, ase.PropertyNotImplementedError | ase.CalculatorSetupError | ase.BadConfiguration):
        return ConfigError(said, _SETTINGS)
    if isinstance(error, NotImplementedError):
        # EMT and many others say so of an element that they do not know.
        return DataError(said, "the calculator cannot label this structure; list what it can in labeller.elements")
    if isinstance(error, ase.ReadError | ase.PropertyNotPresent):
        return OutputUnreadable(said, _KEPT)
    if isinstance(error, FileNotFoundError) or (
        isinstance(error, subprocess.CalledProcessError) and error.returncode in (126, 127)
    ):
        return ConfigError(said, "its program or one of its files is missing on this node")
    if isinstance(error, subprocess.CalledProcessError):
        return Crashed(said, _KEPT, transient=error.returncode < 0)
    if isinstance(error, OSError):
        return Crashed(said, _KEPT, transient=error.errno in (errno.ENOSPC, errno.EDQUOT))
    return Crashed(said, _KEPT)
