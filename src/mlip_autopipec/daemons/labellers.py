"""Which engine labels a task; imports lazily, since a node may have only some of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.interfaces import Labeller
from mlip_autopipec.daemons.settings import NodeSettings
from mlip_autopipec.runtime.tether import tethered

Settings = TypeVar("Settings", bound=BaseModel)


def make_labeller(settings: Mapping[str, Any], node: NodeSettings) -> Labeller:
    """Return the labeller that a task asks for; what it starts dies with the calling process.

    Parameters
    ----------
    settings
        A task's `labeller` section.
    node
        What differs from node to node: launcher, pseudopotential folder, scratch.

    Raises
    ------
    DataError
        The task names an engine or settings that do not exist.
    ConfigError, EngineError
        The engine is missing on this node.
    """
    engine = settings.get("engine")
    if engine == "teacher":
        from mlip_autopipec.engines.teachers.labeller import TeacherLabeller
        from mlip_autopipec.engines.teachers.settings import TeacherSettings

        return TeacherLabeller(_checked(TeacherSettings, settings))
    if engine == "espresso":
        from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
        from mlip_autopipec.engines.espresso.settings import EspressoSettings

        return EspressoLabeller(_checked(EspressoSettings, settings), node.espresso, tether=tethered([]))
    if engine == "gpaw":
        from mlip_autopipec.engines.gpaw.labeller import GpawLabeller
        from mlip_autopipec.engines.gpaw.settings import GpawSettings

        return GpawLabeller(_checked(GpawSettings, settings), node.gpaw)
    if engine == "vasp":
        from mlip_autopipec.engines.vasp.labeller import VaspLabeller
        from mlip_autopipec.engines.vasp.settings import VaspSettings

        return VaspLabeller(_checked(VaspSettings, settings), node.vasp, tether=tethered([]))
    if engine == "ase":
        from mlip_autopipec.engines.calculators.labeller import AseLabeller
        from mlip_autopipec.engines.calculators.settings import AseSettings

        return AseLabeller(_checked(AseSettings, settings), tether=tethered([]))
    raise DataError(f"labeller.engine: {engine!r} is not known here", "known are teacher, espresso, gpaw, vasp and ase")


def clean_up(node: NodeSettings, folders: Iterable[Path]) -> None:
    """Remove what labellers of this host that were killed left on its disks.

    Parameters
    ----------
    folders
        Those of their attempts.
    """
    from mlip_autopipec.engines.espresso.scratch import remove_abandoned

    remove_abandoned(node.espresso.scratch, folders)


def _checked(model: type[Settings], settings: Mapping[str, Any]) -> Settings:
    try:
        return model.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["labeller", *map(str, first["loc"])])
        raise DataError(f"{key}: {first['msg']}", "publish the task again with valid settings") from error
