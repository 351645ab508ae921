"""What a walker says of itself: `walkers/wNN/state.json`, replaced atomically, also the anchor of its resume."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import read_json, write_json

Condition = Literal["starting", "running", "halted", "stopped", "done", "stuck", "failed"]
GAVE_UP: frozenset[str] = frozenset({"stuck", "failed"})
ENDED: frozenset[str] = GAVE_UP | {"done"}


@dataclass(frozen=True)
class WalkerState:
    """State of one walker.

    Attributes
    ----------
    step, steps
        MD steps made and wanted.
    gamma
        Largest gamma at the last look, None before the first.
    version
        Potential version in use, None before the first.
    waiting_for
        Empty, or what has to happen before it moves on.
    snapshot, snapshot_step
        File name (within the walker's folder) and step of the last safe snapshot.
    extractions
        Regions sent to labelling so far.
    extracted_step
        Step at which the last of them was.
    refusals
        Halts of which no cell was worth a label, since the walker began or was revived.
    halted_step
        Step of the last halt.
    reseeds
        Failed healings in a row, without a safe step beyond the halted one in between.
    seed
        Seed of the velocities now in use.
    engine
        Who moves the atoms: the engine that evaluates in LAMMPS' library, or LAMMPS' own command.
    updated
        Seconds since the epoch, by the walker's host.
    """

    name: str
    state: Condition = "starting"
    step: int = 0
    steps: int = 0
    temperature: float = 0.0
    gamma: float | None = None
    version: str | None = None
    waiting_for: str = ""
    reason: str = ""
    snapshot: str | None = None
    snapshot_step: int = 0
    extractions: int = 0
    extracted_step: int = 0
    refusals: int = 0
    halted_step: int = 0
    reseeds: int = 0
    seed: int = 0
    engine: str = ""
    updated: float = 0.0

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def gave_up(self) -> bool:
        """True if it ended before it was done."""
        return self.state in GAVE_UP


def write_state(folder: Path, state: WalkerState) -> None:
    """Replace `folder/state.json`."""
    write_json(folder / "state.json", asdict(state))


def read_state(folder: Path) -> WalkerState | None:
    """Return the state, or None if the walker never ran."""
    path = folder / "state.json"
    try:
        return WalkerState(**read_json(path))
    except FileNotFoundError:
        return None
    except TypeError as error:
        raise DataError(f"{path}: not a walker's state: {error}", "move the walker's folder away") from error


def read_all(walkers: Path) -> list[WalkerState]:
    """Return the states of all walkers of a run, by name."""
    if not walkers.is_dir():
        return []
    states = (read_state(folder) for folder in sorted(walkers.iterdir()) if folder.is_dir())
    return [state for state in states if state is not None]
