"""The module `pyace` of python-ace, imported when it is needed: an extra that not every installation has."""

from __future__ import annotations

from functools import cache
from typing import Any

from mlip_autopipec.core.errors import EngineError


@cache
def import_pyace() -> Any:
    """Return the module `pyace` of python-ace.

    Raises
    ------
    EngineError
        python-ace is not installed.
    """
    try:
        import pyace
        import pyace.evaluator
    except ImportError as error:
        raise EngineError(
            f"python-ace cannot be imported: {error}",
            "pip install 'mlip-autopipec[pacemaker]' (academic, non-commercial licence)",
        ) from error
    if not hasattr(pyace, "ACEBBasisSet"):
        raise EngineError(
            "the installed package 'pyace' is not the one for interatomic potentials",
            "pip uninstall pyace; pip install 'mlip-autopipec[pacemaker]'",
        )
    return pyace
