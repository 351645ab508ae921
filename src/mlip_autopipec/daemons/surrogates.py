"""Which calculator stands in for DFT during exploration; imports lazily, since a node may have only some of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from ase import Atoms
from ase.calculators.calculator import all_changes

from mlip_autopipec.core.errors import AutopipeError, ConfigError, DataError
from mlip_autopipec.core.interfaces import BatchForces

_WHERE: Final = "explore.surrogate"
# Beyond some thousand atoms a GPU gets no faster, and seeds have tens to a hundred.
_BATCH_ON_GPU: Final = 32


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
        from mlip_autopipec.ace.calculator import ACECalculator

        path = root / str(model)
        if not path.is_file():
            raise ConfigError(f"{_WHERE}.model: {path}: file not found", "give a .yaml or .yace, relative to the run")
        return ACECalculator(path, threads=1)
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
        try:
            return make_calculator(load_factory(chosen), chosen)
        except ConfigError as error:
            raise ConfigError(error.message.replace("labeller.", f"{_WHERE}.", 1), error.hint) from error
    raise DataError(f"{_WHERE}.kind: {kind!r} is not known here", "known are mace, potential, emt, lj and ase")


def how_many_at_once(settings: Mapping[str, Any], device: str, batch: Literal["auto"] | int) -> int:
    """Return how many trajectories this node moves at once; 1: one by one through ASE.

    Raises
    ------
    ConfigError
        The device is not there.
    """
    if settings.get("kind") != "mace":
        return 1
    if batch != "auto":
        return batch
    from mlip_autopipec.engines.mace.calculator import choose_device

    return _BATCH_ON_GPU if choose_device(device) == "cuda" else 1


def make_batch_forces(calculator: Any) -> BatchForces:
    """Return what computes many structures at once by a surrogate of which `how_many_at_once` is above 1."""
    from mlip_autopipec.engines.mace.batch import MaceBatch

    return MaceBatch(calculator)


def device_of(calculator: Any) -> str:
    """Return where a surrogate computes: cpu or cuda."""
    return str(getattr(getattr(calculator, "device", None), "type", "cpu"))


def check_model(settings: Mapping[str, Any], root: Path) -> None:
    """Refuse a surrogate whose file has gone: no node can compute with it.

    Raises
    ------
    DataError
        `model` names a file that is not there.
    """
    model = Path(str(settings.get("model") or ""))
    is_file = settings.get("kind") == "potential" or (
        settings.get("kind") == "mace" and (model.suffix or model.parts[1:])
    )
    if is_file and not (root / model).is_file():
        raise DataError(
            f"{_WHERE}.model: {root / model}: file not found",
            "put it back, then autopipe queue requeue the trajectories",
        )


def check_surrogate(settings: Mapping[str, Any], root: Path, device: str, seeds: Sequence[Atoms]) -> None:
    """Make it and compute the smallest seeds that have all elements, so that what is missing is said before a run.

    Raises
    ------
    ConfigError
        It cannot be made on this node, or cannot compute a seed.
    """
    try:
        calculator = make_surrogate(settings, root, device)
    except AutopipeError as error:
        raise ConfigError(f"{_WHERE}: {error.message}".replace(f"{_WHERE}: {_WHERE}", _WHERE), error.hint) from error
    seen: set[str] = set()
    for atoms in sorted(seeds, key=len):
        if seen.issuperset(atoms.get_chemical_symbols()):
            continue
        seen.update(atoms.get_chemical_symbols())
        probe = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        try:
            calculator.calculate(probe, ["energy", "forces"], list(all_changes))
        # Calculators fail by exceptions of any kind.
        except Exception as error:
            raise ConfigError(
                f"{_WHERE}: {settings['kind']} cannot compute {atoms.get_chemical_formula()}: "
                f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
                "take a surrogate that knows all elements, or explore.surrogate.kind: none",
            ) from error
