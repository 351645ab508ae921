"""Which engine evaluates a potential version; imports lazily, since each engine is an extra of its own."""

from __future__ import annotations

from pathlib import Path

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Evaluator


def make_evaluator(folder: Path) -> Evaluator:
    """Return the evaluator, with gamma, of a version folder.

    Raises
    ------
    ModelError
        The folder is incomplete.
    """
    potential, active_set = folder / "potential.yaml", folder / "potential.asi"
    for file in (potential, active_set):
        if not file.is_file():
            raise ModelError(f"{file}: missing, so this version cannot run", "roll back to another version")
    from mlip_autopipec.engines.pacemaker.evaluator import PyaceEvaluator

    return PyaceEvaluator(potential, active_set)
