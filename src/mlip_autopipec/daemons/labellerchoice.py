"""Who labels a run whose user did not say: Quantum ESPRESSO, else GPAW. A teacher only if asked for by name."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.daemons.settings import NodeSettings

LABELLERS: Final = ("espresso", "gpaw", "vasp", "teacher")
_UNASKED: Final = ("espresso", "gpaw")


@dataclass(frozen=True)
class Choice:
    """A labeller.

    Attributes
    ----------
    section : of `autopipe.yaml`
    reason : why this one
    """

    section: Mapping[str, Any]
    reason: str


def choose_labeller(elements: Collection[str], asked: str | None, node: NodeSettings) -> Choice:
    """Return the labeller that is asked for, or the first one that can label these elements here.

    Raises
    ------
    ConfigError
        What is missing.
    """
    names = sorted(set(elements))
    if asked is not None:
        return _CHOICES[asked](names, node)
    missing = []
    for engine in _UNASKED:
        try:
            return _CHOICES[engine](names, node)
        except ConfigError as error:
            missing.append(f"{engine}: {error.message} ({error.hint})")
    raise ConfigError(
        f"no DFT program here can label {', '.join(names)}: " + "; ".join(missing),
        "install one of them, or try the loop with an analytic potential: --labeller teacher",
    )


def _espresso(elements: list[str], node: NodeSettings) -> Choice:
    from mlip_autopipec.engines.espresso.library import load_library

    command = node.espresso.command
    words = shlex.split(command) if isinstance(command, str) else list(command)
    if not words or (shutil.which(words[-1]) is None and shutil.which(words[0]) is None):
        raise ConfigError(f"{command} is not on PATH", "apt-get install quantum-espresso quantum-espresso-data")
    folder = node.espresso.pseudo_dir
    library = load_library(folder) if folder.is_dir() else None
    if library is None:
        raise ConfigError(
            f"{folder} holds no pseudopotentials with a manifest",
            "put a published library there, or install quantum-espresso-data",
        )
    functional = next(iter(library.choose(elements).values())).functional
    return Choice(
        {"engine": "espresso", "elements": elements, "functional": functional},
        f"{words[-1]} is there, and {library.name} has {functional} for {', '.join(elements)}",
    )


def _gpaw(elements: list[str], node: NodeSettings) -> Choice:
    from mlip_autopipec.engines.gpaw.library import open_gpaw, require_datasets
    from mlip_autopipec.engines.gpaw.settings import GpawSettings

    settings = GpawSettings()
    require_datasets(open_gpaw(node.gpaw.setup_dir), elements, settings)
    section = {"engine": "gpaw", "functional": settings.functional}
    return Choice(section, f"GPAW is installed, and has {settings.functional} datasets for {', '.join(elements)}")


def _vasp(elements: list[str], node: NodeSettings) -> Choice:
    from mlip_autopipec.engines.vasp.potcars import library_folder, require_potcars
    from mlip_autopipec.engines.vasp.settings import VaspSettings

    settings = VaspSettings()
    folder = library_folder(settings, node.vasp)
    require_potcars(elements, settings, folder)
    return Choice({"engine": "vasp", "functional": settings.functional}, f"asked for; POTCARs in {folder}")


def _teacher(elements: list[str], node: NodeSettings) -> Choice:
    from mlip_autopipec.engines.teachers.labeller import EMT_METALS

    if set(elements) <= set(EMT_METALS):
        return Choice({"engine": "teacher", "model": "emt"}, "asked for; ASE's EMT, which is not DFT")
    if elements == ["Ar"]:
        return Choice({"engine": "teacher", "model": "lj"}, "asked for; Lennard-Jones argon, which is not DFT")
    from mlip_autopipec.engines.lammps.reference import file_for

    found = file_for(elements)
    if found is None:
        raise ConfigError(
            f"--labeller teacher: neither EMT ({', '.join(EMT_METALS)}) nor a potential file of LAMMPS knows "
            f"{', '.join(elements)} together",
            "take a DFT program, or another calculator: labeller: {engine: ase, calculator: ...}",
        )
    kwargs = {"pair_style": found.pair_style, "file": found.file, "elements": elements}
    section = {
        "engine": "ase", "calculator": "mlip_autopipec.engines.lammps.reference.LammpsFile", "kwargs": kwargs,
        "elements": elements,
    }  # fmt: skip
    return Choice(section, f"asked for; {found.pair_style} by LAMMPS' own {found.file}, which is not DFT")


_CHOICES: Final[Mapping[str, Callable[[list[str], NodeSettings], Choice]]] = {
    "espresso": _espresso, "gpaw": _gpaw, "vasp": _vasp, "teacher": _teacher,
}  # fmt: skip
