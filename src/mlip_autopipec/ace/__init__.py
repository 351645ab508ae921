"""The ACE potential as pure numerics: formats, basis, evaluator, extrapolation grade, active set, linear fit.

``from mlip_autopipec.ace import ACECalculator, load_potential``; everything else by its module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlip_autopipec.ace.calculator import ACECalculator
    from mlip_autopipec.ace.descriptor import AceDescriptor
    from mlip_autopipec.ace.evaluator import AceEvaluator
    from mlip_autopipec.ace.fitting import AceBasis
    from mlip_autopipec.ace.formats.asi import read_asi, write_asi
    from mlip_autopipec.ace.loading import load_potential

__all__ = ["ACECalculator", "AceBasis", "AceDescriptor", "AceEvaluator", "load_potential", "read_asi", "write_asi"]

_HOMES = {
    "ACECalculator": "calculator",
    "AceBasis": "fitting",
    "AceDescriptor": "descriptor",
    "AceEvaluator": "evaluator",
    "load_potential": "loading",
    "read_asi": "formats.asi",
    "write_asi": "formats.asi",
}


def __getattr__(name: str) -> Any:
    # Late, so that a command that only names this room need not load the compiler.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
