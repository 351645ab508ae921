"""Production on disk: `production/<name>/production.json`, what is run with which version, and each walker's state.

A walker's `state.json` is that of its last snapshot, replaced after it: a kill goes back to both, and nothing is
counted twice.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import read_json, write_json
from mlip_autopipec.store.rundir import RunDirectory

FILE = "production.json"
Condition = Literal["running", "done", "failed"]


@dataclass(frozen=True)
class Production:
    """What a production is made of; it never changes, but walkers may be added, and make more steps.

    Attributes
    ----------
    version, sha256
        The potential, and the hash of its files.
    engine
        Who evaluates it.
    halt_level
        gamma above which the learning walkers halted: beyond it the potential extrapolates.
    check_every, frame_every
        MD steps between two looks at gamma, and between two frames.
    walkers
        Name -> what it does, JSON-ready.
    """

    version: str
    sha256: str
    engine: str
    halt_level: float
    check_every: int
    frame_every: int
    walkers: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class ProductionState:
    """One walker of a production at its last snapshot.

    Attributes
    ----------
    state, reason
        `failed` if MD broke down, with the reason.
    step, steps
        MD steps made and wanted.
    version
        The potential.
    snapshot
        File name (within the walker's folder) of the MD state; None before the first.
    frames
        In `trajectory.extxyz.gz`.
    looks, above
        How often gamma was looked at, and how often it was above the halt level.
    gamma, gamma_step
        The largest gamma so far, and its step.
    first_above, last_above
        Steps at which gamma was above first and last; None if it never was.
    updated
        Seconds since the epoch.
    """

    name: str
    version: str
    state: Condition = "running"
    reason: str = ""
    step: int = 0
    steps: int = 0
    temperature: float = 0.0
    snapshot: str | None = None
    frames: int = 0
    looks: int = 0
    above: int = 0
    gamma: float | None = None
    gamma_step: int | None = None
    first_above: int | None = None
    last_above: int | None = None
    updated: float = 0.0


def renewed(found: ProductionState, steps: int) -> ProductionState:
    """Return the state with which another start begins: a new chance, and perhaps more steps."""
    ended: Condition = "done" if found.step >= steps else "running"
    return replace(found, steps=steps, state=ended, reason="")


def write_production(folder: Path, production: Production) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / FILE, asdict(production))


def read_production(folder: Path) -> Production | None:
    """Return what is produced in `folder`, None if nothing is.

    Raises
    ------
    DataError
        The file is damaged.
    """
    try:
        return Production(**read_json(folder / FILE))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except TypeError as error:
        raise DataError(f"{folder / FILE}: not a production: {error}", "move the folder away") from error


def productions(run: RunDirectory) -> list[tuple[Path, Production]]:
    """Return the folders of all productions, and what is in them."""
    folders = sorted(run.production.iterdir()) if run.production.is_dir() else []
    return [(folder, found) for folder in folders if (found := read_production(folder)) is not None]


def write_walker(folder: Path, state: ProductionState) -> None:
    write_json(folder / "state.json", asdict(state))


def read_walker(folder: Path) -> ProductionState | None:
    """Return the state of a walker, None before its first snapshot.

    Raises
    ------
    DataError
        The file is damaged.
    """
    path = folder / "state.json"
    try:
        return ProductionState(**read_json(path))
    except FileNotFoundError:
        return None
    except TypeError as error:
        raise DataError(f"{path}: not a walker's state: {error}", "move the walker's folder away") from error
