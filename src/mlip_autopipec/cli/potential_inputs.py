"""What the commands on potential files are given: potentials by file or version, and structures, frame by frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlip_autopipec.core.errors import AutopipeError, ConfigError, NotFoundError

if TYPE_CHECKING:
    from ase import Atoms

    from mlip_autopipec.ace.evaluator import AceEvaluator

run_folder_option = click.option(
    "-C",
    "--run",
    "run_folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("."),
    show_default="this folder",
    help="Run directory, for versions.",
)


@dataclass(frozen=True)
class PotentialFiles:
    """A potential and what belongs to it: `.yaml` or `.yace`, and the `.asi` if there is one."""

    potential: Path
    active_set: Path | None


def find_potential(name: str, run_folder: Path) -> PotentialFiles:
    """Return the files of a file name, with the `.asi` beside it, or of a version of the run.

    Raises
    ------
    NotFoundError
        There is neither such a file nor such a version.
    """
    file = Path(name)
    if not file.exists() and re.fullmatch(r"v\d+", name):
        from mlip_autopipec.store.registry import Registry
        from mlip_autopipec.store.rundir import RunDirectory

        registry = Registry(RunDirectory(run_folder).require().potentials)
        if name not in registry.versions():
            known = ", ".join(registry.versions()) or "none"
            raise NotFoundError(f"{name}: no such version", f"known: {known}")
        file = registry.path(name) / "potential.yaml"
    if not file.is_file():
        raise NotFoundError(f"{name}: no such file", "give a .yaml or .yace file, or a version such as v0001")
    active_set = file.with_suffix(".asi")
    return PotentialFiles(file, active_set if file.suffix != ".yace" and active_set.is_file() else None)


@contextmanager
def bad_input() -> Iterator[None]:
    """What a file is to blame for ends as a mistake of the user, not as a bug."""
    try:
        yield
    except NotFoundError:
        raise
    except AutopipeError as error:
        raise ConfigError(error.message, error.hint) from error


def load(potential: Path, active_set: Path | None, threads: int) -> AceEvaluator:
    """Return our engine of a potential.

    Raises
    ------
    ConfigError
        A file is malformed, or they do not belong together.
    """
    from mlip_autopipec.ace.evaluator import AceEvaluator
    from mlip_autopipec.ace.loading import as_active_set, load_potential

    if active_set is not None and not active_set.is_file():
        raise NotFoundError(f"{active_set}: no such file", "give the .asi file of the potential")
    with bad_input():
        loaded, inverses = load_potential(potential), as_active_set(active_set)
    try:
        return AceEvaluator(loaded, inverses, threads=threads)
    except AutopipeError as error:
        raise ConfigError(f"{active_set}: {error.message}", error.hint) from error


def each_structure(path: Path) -> Iterator[Atoms]:
    """Yield frame by frame, so that a file of any length fits; what goes wrong in the loop's body names the frame.

    Raises
    ------
    NotFoundError
        There is no such file.
    ConfigError
        It cannot be read, or holds no structure.
    """
    import ase.io

    if not path.is_file():
        raise NotFoundError(f"{path}: no such file", "give a file of structures that ASE reads, for example extxyz")
    frames = iter(ase.io.iread(path, index=":"))
    number = 0
    while True:
        try:
            atoms = next(frames)
        except StopIteration:
            break
        except Exception as error:  # ASE's readers raise anything at all
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"{path}: structure {number + 1} cannot be read: {reason}", "write it as extxyz"
            ) from error
        number += 1
        yield atoms
    if number == 0:
        raise ConfigError(f"{path}: holds no structure", "give at least one")


@contextmanager
def blame(path: Path, number: int) -> Iterator[None]:
    """Name the frame that a potential cannot evaluate."""
    try:
        yield
    except AutopipeError as error:
        raise ConfigError(f"{path}: structure {number}: {error.message}", error.hint) from error


def check_target(target: Path, replace: bool) -> None:
    """Refuse to write over a file that is there.

    Raises
    ------
    ConfigError
        It exists and nobody said `--yes`, or its folder does not exist.
    """
    if target.exists() and not replace:
        raise ConfigError(f"{target}: exists already", "give another name, or --yes to replace it")
    if not target.parent.is_dir():
        raise ConfigError(f"{target}: there is no folder {target.parent}", "make it first")
