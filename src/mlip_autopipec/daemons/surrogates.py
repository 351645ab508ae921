"""Which calculator stands in for DFT during exploration; imports lazily, since a node may have only some of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.errors import ConfigError, DataError, EngineError

_WHERE: Final = "explore.surrogate"


def make_surrogate(settings: Mapping[str, Any], root: Path, device: str) -> Any:
    """Return the ASE calculator that a trajectory asks for.

    Parameters
    ----------
    settings
        `surrogate` of the task.
    root
        The run directory, against which file names are resolved.
    device
        auto, cpu or cuda, of this node.

    Raises
    ------
    ConfigError
        It is not installed here, its file is missing, or its arguments are refused.
    DataError
        There is no such kind.
    """
    kind, model = settings.get("kind"), settings.get("model")
    if kind == "mace":
        from mlip_autopipec.engines.mace.calculator import load_mace

        return load_mace(str(model), root, device=device, dtype=str(settings.get("dtype", "float32")))
    if kind == "potential":
        from mlip_autopipec.ace.calculator import AceCalculator

        path = root / str(model)
        if not path.is_file():
            raise ConfigError(f"{_WHERE}.model: {path}: file not found", "give a .yaml or .yace, relative to the run")
        return AceCalculator(path, threads=1)
    if kind == "emt":
        from ase.calculators.emt import EMT

        return EMT()
    if kind == "lj":
        from ase.calculators.lj import LennardJones

        return LennardJones(**{"smooth": True, **settings.get("kwargs", {})})
    if kind == "ase":
        from mlip_autopipec.engines.calculators.loading import load_factory, make_calculator
        from mlip_autopipec.engines.calculators.settings import AseSettings

        chosen = AseSettings(calculator=str(settings["calculator"]), kwargs=settings.get("kwargs", {}), energy="energy")
        return make_calculator(load_factory(chosen), chosen)
    raise DataError(f"{_WHERE}.kind: {kind!r} is not known here", "known are mace, potential, emt, lj and ase")


def check_surrogate(settings: Mapping[str, Any], root: Path, device: str) -> None:
    """Make it once, so that what is missing is said before the run starts.

    Raises
    ------
    ConfigError
        It cannot be made on this node.
    """
    try:
        make_surrogate(settings, root, device)
    except EngineError as error:
        raise ConfigError(f"{_WHERE}: {error.message}", error.hint) from error
