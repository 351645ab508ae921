"""Who computes properties: a potential, and the reference that it is compared with, as calculators of ASE."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.daemons.evaluators import load_evaluator
from mlip_autopipec.daemons.labellers import make_labeller
from mlip_autopipec.daemons.settings import NodeSettings
from mlip_autopipec.properties.calculators import EvaluatorCalculator, LabellerCalculator
from mlip_autopipec.stages.watch import Engine

_FORMS = "teacher:emt, ase:ase.calculators.emt.EMT, a potential file, a version, or run (the labeller of the run)"


def by_potential(potential: Path, active_set: Path | None = None, engine: Engine = "ace") -> EvaluatorCalculator:
    """Return a potential file as a calculator; with gamma if there is an active set."""
    return EvaluatorCalculator(load_evaluator(potential, active_set, engine))


def by_labeller(settings: Mapping[str, Any], node: NodeSettings, folder: Path) -> LabellerCalculator:
    """Return a labeller as a calculator.

    Parameters
    ----------
    settings
        As in the section `labeller`.
    folder
        Existing; inputs and outputs are kept in it.
    """
    return LabellerCalculator(make_labeller(settings, node), folder)


def named_labeller(name: str) -> dict[str, Any]:
    """Return the section `labeller` that a short name stands for: `teacher:MODEL` or `ase:DOTTED.PATH`.

    Raises
    ------
    ConfigError
        It stands for none.
    """
    engine, _, rest = name.partition(":")
    if engine == "teacher" and rest:
        return {"engine": "teacher", "model": rest.lower()}
    if engine == "ase" and rest:
        return {"engine": "ase", "calculator": rest}
    raise ConfigError(f"--against {name}: no such labeller", f"give {_FORMS}")
