"""Every way in which GPAW ends without a label, as an error of the house."""

from __future__ import annotations

import errno
from typing import Any, Final

from mlip_autopipec.core.errors import AutopipeError, ConfigError, Crashed, DataError, NotConverged

_SLOWER: Final = "lower labeller.mixing_beta, raise labeller.electron_maxstep or labeller.width_ev"
_KEPT: Final = "its output is kept as gpaw.txt in the attempt's folder"


def error_of(error: Exception, gpaw: Any, steps: int) -> AutopipeError:
    """Return the error of the house for what GPAW raised after so many SCF steps."""
    # Its exceptions are often silent.
    said = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, AutopipeError):
        return error
    if isinstance(error, gpaw.ConvergenceError):
        return NotConverged(f"GPAW's SCF did not converge in {steps} iterations", _SLOWER)
    if type(error).__name__ == "AtomsTooClose":
        return DataError(f"structure: {said}", "the structure is unphysical: its atoms lie upon each other")
    if isinstance(error, FileNotFoundError):
        return ConfigError(f"GPAW: {said}", "install gpaw-data, or correct node.gpaw.setup_dir")
    if isinstance(error, MemoryError):
        return Crashed(f"GPAW: out of memory: {said}", "smaller cells, a lower labeller.ecut_ev, or more memory")
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return Crashed(f"GPAW: {said}", "make room on the disk" if full else _KEPT, transient=full)
    return Crashed(f"GPAW: {type(error).__name__}: {said}", _KEPT)
