"""Where the run as a whole stands: `state.json`, written by the supervisor."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import read_json, write_json

Phase = Literal["bootstrap", "otf", "done", "stuck"]
Bootstrap = Literal["", "exploring", "picking", "labelling", "training"]


@dataclass(frozen=True)
class WorkflowState:
    """State of a run.

    Attributes
    ----------
    generation
        Number of the current potential version, 0 before `v0001`.
    phase
        `bootstrap` until there is a potential, `otf` while walkers move, `done` when all walkers have made their way
        and all labels are ingested; `stuck` in place of `done` if a walker gave up.
    pending_tasks
        Tasks that will still get a label: pending, delayed or running.
    bootstrap
        What the bootstrap waits for: trajectories, the picking among them, labels, the first fit; empty after it.
    trajectories
        Trajectories under way.
    """

    generation: int = 0
    phase: Phase = "bootstrap"
    pending_tasks: int = 0
    bootstrap: Bootstrap = ""
    trajectories: int = 0

    def write(self, path: Path) -> None:
        """Replace the file."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> WorkflowState | None:
        """Return the state, None if the run was never started.

        Raises
        ------
        DataError
            The file is not a workflow state.
        """
        try:
            state = cls(**read_json(path))
        except FileNotFoundError:
            return None
        except TypeError as error:
            raise DataError(f"{path}: not a workflow state: {error}", "remove it, it is made anew") from error
        if state.phase not in get_args(Phase):
            raise DataError(f"{path}: phase {state.phase!r} is none of {get_args(Phase)}", "remove it, it is made anew")
        if state.bootstrap not in get_args(Bootstrap):
            raise DataError(f"{path}: bootstrap {state.bootstrap!r} is unknown", "remove it, it is made anew")
        return state
