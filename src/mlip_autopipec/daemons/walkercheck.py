"""Would every walker start? Asked before the run, since a walker itself comes to life only after the first fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ase import Atoms
from pydantic import ValidationError

from mlip_autopipec.core.errors import ConfigError, DataError
from mlip_autopipec.daemons.walkermd import dimension_of, md_settings
from mlip_autopipec.stages.watch import OtfSettings, WalkerPlan, walker_plans

# Names of the MD engine's settings -> keys of the `otf` section.
_KEYS: Final = {
    "temperature_k": "temperature",
    "pressure_bar": "pressure",
    "timestep_fs": "timestep",
    "thermostat_damping_fs": "thermostat_damping",
    "barostat_damping_fs": "barostat_damping",
}


def check_walkers(otf: OtfSettings, structures: Sequence[Atoms]) -> None:
    """Give each walker's settings, and its start structure, to the MD engine's own checks.

    Parameters
    ----------
    structures
        One for each walker.

    Raises
    ------
    ConfigError
        The MD engine refuses a value, or the box of the structure.
    """
    from mlip_autopipec.engines.lammps.box import BoxMap
    from mlip_autopipec.engines.lammps.create import check_box

    for number, (plan, structure) in enumerate(zip(walker_plans(otf), structures, strict=True)):
        key = "start.structure" if plan.structure is None else f"otf.walkers.{number}.structure"
        dimension = dimension_of(structure)
        try:
            settings = md_settings(plan, otf, dimension)
        except ValidationError as error:
            raise _explained(error.errors()[0], otf, plan, number) from error
        if plan.ensemble == "npt" and not structure.pbc[:dimension].all():
            raise ConfigError(
                f"{_key(otf, number, 'ensemble')}: 'npt': {key} is not periodic in all directions",
                "use nvt, or give a periodic structure",
            )
        try:
            box = BoxMap.of(structure, dimension)
        except DataError as error:
            raise ConfigError(f"{key}: {error.message}", error.hint or "correct the cell in the file") from error
        try:
            check_box(settings, box)
        except ConfigError as error:
            name = error.message.partition(":")[0]
            raise ConfigError(f"{_key(otf, number, name)}{error.message.removeprefix(name)}", error.hint) from error


def _explained(problem: Any, otf: OtfSettings, plan: WalkerPlan, number: int) -> ConfigError:
    message = str(problem["msg"]).removeprefix("Value error, ")
    # A check of several fields together names the first of them in its message.
    field = str(problem["loc"][0]) if problem["loc"] else message.partition(":")[0]
    name = _KEYS.get(field, field)
    key, value = _key(otf, number, name), getattr(plan, name, getattr(otf, name, None))
    return ConfigError(f"{key}: {value!r} ({plan.name}): {message.removeprefix(f'{field}: ')}", f"change {key}")


def _key(otf: OtfSettings, number: int, name: str) -> str:
    """Return where the user set a value: in the walker's own overrides, or for all of them."""
    own = None if isinstance(otf.walkers, int) else getattr(otf.walkers[number], name, None)
    return f"otf.{name}" if own is None else f"otf.walkers.{number}.{name}"
