"""Are the start files what MD, the labeller and the fit can begin with? Asked before the run, with file and frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.errors import ConfigError, DataError, ModelError
from mlip_autopipec.core.neighbours import neighbourhood
from mlip_autopipec.core.yamlfile import read_mapping
from mlip_autopipec.daemons.adoption import known_elements
from mlip_autopipec.daemons.bases import make_basis
from mlip_autopipec.daemons.evaluators import load_evaluator
from mlip_autopipec.stages.curate import not_finite
from mlip_autopipec.stages.explore import read_structures
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config

# No bond is shorter than that of H2, 0.74 A; pw.x ends with success on atoms that lie on top of each other.
_CLOSEST: Final = 0.5


def start_structure(run: RunDirectory, config: Config) -> Atoms:
    """Return the one structure that MD starts from.

    Raises
    ------
    ConfigError
        The file is missing, unreadable, holds several structures, or one that makes no sense.
    """
    return _one_structure(config.path(run, config.start.structure), "start.structure")


def walker_structures(run: RunDirectory, config: Config, common: Atoms) -> list[tuple[str, Atoms]]:
    """Return for each walker the key and file that name its start structure, and the structure.

    Raises
    ------
    ConfigError
        As `start_structure`.
    """
    found = []
    for number, plan in enumerate(walker_plans(config.otf)):
        key = "start.structure" if plan.structure is None else f"otf.walkers.{number}.structure"
        file = config.path(run, plan.structure or config.start.structure)
        found.append((f"{key}: {file}", common if plan.structure is None else _one_structure(file, key)))
    return found


def _one_structure(file: Path, key: str) -> Atoms:
    frames = read_structures(file, key)
    if len(frames) > 1:
        raise ConfigError(
            f"{key}: {file}: holds {len(frames)} structures, but MD starts from one",
            f"write the one that is meant into a file of its own, e.g. ase convert -n -1 {file.name} start.extxyz",
        )
    _check(frames[0], f"{key}: {file}")
    return frames[0]


def start_dataset(run: RunDirectory, config: Config) -> list[Atoms]:
    """Return the first training structures, labelled or not; none without `start.dataset`.

    Raises
    ------
    ConfigError
        The file is missing or unreadable, or a frame or its label makes no sense.
    """
    if config.start.dataset is None:
        return []
    file = config.path(run, config.start.dataset)
    frames = read_structures(file, "start.dataset")
    for number, atoms in enumerate(frames):
        _check(atoms, f"start.dataset: {file}: frame {number} (the first is 0)")
    return frames


def _check(atoms: Atoms, where: str) -> None:
    if len(atoms) == 0:
        raise ConfigError(f"{where}: holds no atoms", "write the atoms, or remove the frame")
    if wrong := not_finite(atoms):
        raise ConfigError(f"{where}: {wrong}: NaN or infinite", "correct the numbers, or remove the frame")
    try:
        close = neighbourhood(atoms, _CLOSEST, sorted(set(atoms.get_chemical_symbols())))
    except DataError as error:
        raise ConfigError(f"{where}: {error.message}", error.hint or "correct the cell in the file") from error
    centres = np.repeat(np.arange(close.n_owned), np.diff(close.first))
    distances = np.linalg.norm(close.positions[close.neighbours] - close.positions[centres], axis=1)
    if len(distances):
        nearest = int(np.argmin(distances))
        raise ConfigError(
            f"{where}: atom {centres[nearest]} has a neighbour at {distances[nearest]:.3g} A, nearer than {_CLOSEST} A",
            "remove atoms that are there twice, or correct cell, periodicity or unit",
        )


def check_potential(run: RunDirectory, config: Config) -> tuple[str, ...]:
    """Return the elements of `start.potential`; none without it.

    Raises
    ------
    ConfigError
        A file is missing or unreadable, the two do not belong together, or no linear fit can go on from the potential.
    EngineError
        The engine that fits is not installed.
    """
    start = config.start
    if start.potential is None or start.active_set is None:
        return ()
    potential, active_set = config.path(run, start.potential), config.path(run, start.active_set)
    for key, file in (("potential", potential), ("active_set", active_set)):
        if not file.is_file():
            raise ConfigError(f"start.{key}: {file}: file not found", "correct the path")
    with _refused("start.potential", potential):
        read_mapping(potential)
        elements = known_elements(potential)
        make_basis(config.training, elements, potential)
    with _refused("start.active_set", active_set):
        load_evaluator(potential, active_set)
    return elements


@contextmanager
def _refused(key: str, file: Path) -> Iterator[None]:
    """Say which setting names the file that is refused."""
    try:
        yield
    except (ModelError, ConfigError) as error:
        message = error.message if str(file) in error.message else f"{file}: {error.message}"
        raise ConfigError(
            f"{key}: {message}", error.hint or "correct the path, or leave start.potential out"
        ) from error


def check_reference_energies(config: Config, elements: set[str]) -> None:
    """Refuse energies that leave one of `elements` out.

    Raises
    ------
    ConfigError
        `training.reference_energies` has no energy for an element of the run.
    """
    given = config.training.reference_energies
    if given == "isolated":
        return
    missing = sorted(elements - set(given))
    if missing:
        raise ConfigError(
            f"training.reference_energies: no energy for {', '.join(missing)}, given are {', '.join(sorted(given))}",
            "give the energy of a free atom, eV, for all elements of the run, or write `isolated`",
        )
