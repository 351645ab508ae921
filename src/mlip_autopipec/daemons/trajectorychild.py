"""Where trajectories are made: lives in an explorer-worker's child, which keeps the surrogates that it has made."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.clock import SystemClock, iso_time
from mlip_autopipec.core.errors import AutopipeError, Crashed, DataError
from mlip_autopipec.core.files import fsync_directory, write_json
from mlip_autopipec.daemons.surrogates import check_model, make_surrogate
from mlip_autopipec.engines.dynamics.checkpoint import NAME as CHECKPOINT
from mlip_autopipec.engines.dynamics.checkpoint import Checkpoint
from mlip_autopipec.engines.dynamics.langevin import FRAMES, Conditions, LangevinRun
from mlip_autopipec.stages.exploration import settings_of
from mlip_autopipec.store.exploration import make_exploration
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task

PROGRESS: Final = "progress.json"


@dataclass(frozen=True)
class TrajectorySettings:
    """What stays the same for all trajectories of a worker; pickled to the child.

    Attributes
    ----------
    root : the run directory
    worker : name that goes into records
    device : auto, cpu or cuda
    checkpoint_s : at most so much work is lost by a kill, s
    """

    root: Path
    worker: str
    device: str
    checkpoint_s: float = 10.0


class TrajectoryBench:
    """Answers (task as dict, folder of the attempt) with the record of the trajectory."""

    def __init__(self, settings: TrajectorySettings, make: Callable[..., Any] = make_surrogate) -> None:
        self._settings = settings
        self._make = make
        self._run = RunDirectory(settings.root)
        self._surrogates: dict[str, Any] = {}

    def __call__(self, request: tuple[dict[str, Any], Path]) -> dict[str, Any]:
        data, folder = request
        task = Task.from_dict(data)
        wanted = settings_of(task)
        surrogate = wanted["surrogate"]
        key = repr(sorted(surrogate.items()))
        if key not in self._surrogates:
            check_model(surrogate, self._settings.root)
            self._surrogates[key] = self._make(surrogate, self._settings.root, self._settings.device)
        resumed = inherit(folder)
        conditions = Conditions(
            wanted["temperature"], wanted["pressure_bar"], wanted["steps"], wanted["stride"], wanted["timestep_fs"],
            wanted["seed"],
        )  # fmt: skip

        def told(step: int) -> None:
            write_json(folder / PROGRESS, {"step": step, "steps": conditions.steps}, fsync=False)

        try:
            md = LangevinRun(
                task.atoms(), self._surrogates[key], conditions, folder,
                checkpoint_s=self._settings.checkpoint_s, told=told,
            )  # fmt: skip
            ended = md.run()
        except AutopipeError:
            raise
        # Calculators fail by exceptions of any kind, and a seed that it cannot compute must not end the process.
        except Exception as error:
            said = f"{surrogate['kind']}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if isinstance(error, NotImplementedError | KeyError):
                raise DataError(said, "the surrogate does not know an element, or has no stress") from error
            raise Crashed(said, "look at the seed, or at the surrogate") from error
        name = self._keep(task, folder) if ended.frames else ""
        return make_exploration(
            task, frames=name, n_frames=ended.frames, steps=ended.step, complaint=ended.complaint,
            info={"resumed_from_step": resumed}, worker=self._settings.worker,
            finished=iso_time(SystemClock().wall()),
        )  # fmt: skip

    def _keep(self, task: Task, folder: Path) -> str:
        """Put the frames where they stay, under a name of this attempt, and return it."""
        target = self._run.explored / task.id[:2] / f"{task.id}-{folder.name}.extxyz"
        target.parent.mkdir(parents=True, exist_ok=True)
        with (folder / FRAMES).open("rb") as handle:
            os.fsync(handle.fileno())
        target.unlink(missing_ok=True)  # of an earlier try that got no further than this
        os.link(folder / FRAMES, target)
        fsync_directory(target.parent)
        return target.name


def inherit(folder: Path) -> int:
    """Let a new attempt begin at the farthest checkpoint of its task's attempts; return the step of that.

    Another attempt's files are copied: its worker may still live, and write there.
    """
    others = [other for other in sorted(folder.parent.iterdir()) if other.is_dir() and other != folder]
    best = max([folder, *others], key=_standing)
    step = _standing(best)
    if not step:
        (folder / CHECKPOINT).unlink(missing_ok=True)
    elif best != folder:
        # The frames first: a checkpoint says that they are there.
        shutil.copyfile(best / FRAMES, folder / FRAMES)
        temporary = folder / f".{CHECKPOINT}.tmp"
        shutil.copyfile(best / CHECKPOINT, temporary)
        os.replace(temporary, folder / CHECKPOINT)
    return step


def _standing(folder: Path) -> int:
    """Return the step from which an attempt can go on, 0 if from none: its checkpoint is not there, or half of it."""
    try:
        found = Checkpoint.read(folder)
    except DataError:
        return 0
    frames = folder / FRAMES
    whole = found is not None and frames.is_file() and frames.stat().st_size >= found.frames
    return found.step if found is not None and whole else 0
