"""Where trajectories are made: lives in an explorer-worker's child, which keeps the surrogates that it has made."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from mlip_autopipec.core.clock import SystemClock, iso_time
from mlip_autopipec.core.errors import AutopipeError, Crashed, DataError
from mlip_autopipec.core.files import fsync_directory, write_json
from mlip_autopipec.daemons.surrogates import (
    check_model,
    device_of,
    how_many_at_once,
    make_batch_forces,
    make_surrogate,
)
from mlip_autopipec.engines.dynamics.batch import LangevinBatch
from mlip_autopipec.engines.dynamics.checkpoint import NAME as CHECKPOINT
from mlip_autopipec.engines.dynamics.checkpoint import Checkpoint
from mlip_autopipec.engines.dynamics.langevin import LangevinRun
from mlip_autopipec.engines.dynamics.track import FRAMES, Conditions, Ended, Track
from mlip_autopipec.stages.exploration import settings_of
from mlip_autopipec.store.exploration import make_exploration
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task

logger = logging.getLogger(__name__)

PROGRESS: Final = "progress.json"
Request = tuple[dict[str, Any], Path]
"""A task as a dict, and the folder of the attempt."""
Answer = dict[str, Any] | AutopipeError
"""The record of a trajectory, or why there is none."""


@dataclass(frozen=True)
class TrajectorySettings:
    """What stays the same for all trajectories of a worker; pickled to the child.

    Attributes
    ----------
    root : the run directory
    worker : name that goes into records
    device : auto, cpu or cuda
    checkpoint_s : at most so much work is lost by a kill, s
    batch : how many trajectories MACE moves at once; auto: by the device
    """

    root: Path
    worker: str
    device: str
    checkpoint_s: float = 10.0
    batch: Literal["auto"] | int = "auto"


@dataclass(frozen=True)
class Speed:
    """How fast trajectories went.

    Attributes
    ----------
    device : cpu or cuda
    at_once : trajectories that were moved together
    atom_steps_per_s : atoms times MD steps per second, of all of them
    """

    device: str
    at_once: int
    atom_steps_per_s: float


@dataclass
class _Job:
    """A trajectory that is asked for, and what comes of it."""

    task: Task
    folder: Path
    wanted: dict[str, Any]
    resumed: int = 0
    answer: Answer | None = None

    @property
    def surrogate(self) -> dict[str, Any]:
        return dict(self.wanted["surrogate"])


class TrajectoryBench:
    """Answers a list of requests by as many answers, and the settings of a surrogate by how many it takes at once."""

    def __init__(self, settings: TrajectorySettings, make: Callable[..., Any] = make_surrogate) -> None:
        self._settings = settings
        self._make = make
        self._run = RunDirectory(settings.root)
        self._surrogates: dict[str, Any] = {}

    def __call__(self, request: Sequence[Request] | Mapping[str, Any]) -> list[Answer] | int:
        if isinstance(request, Mapping):
            return how_many_at_once(request, self._settings.device, self._settings.batch)
        tasks = [(Task.from_dict(data), folder) for data, folder in request]
        jobs = [_Job(task, folder, settings_of(task)) for task, folder in tasks]
        groups: dict[str, list[_Job]] = {}
        for job in jobs:
            groups.setdefault(repr(sorted(job.surrogate.items())), []).append(job)
        for key, group in groups.items():
            self._explore(key, group)
        return [job.answer or Crashed("the trajectory has no answer") for job in jobs]

    def _explore(self, key: str, jobs: Sequence[_Job]) -> None:
        """Answer jobs that share a surrogate."""
        surrogate, settings = jobs[0].surrogate, self._settings
        if key not in self._surrogates:
            try:
                check_model(surrogate, settings.root)
            except DataError as error:
                for job in jobs:
                    job.answer = error
                return
            self._surrogates[key] = self._make(surrogate, settings.root, settings.device)
        calculator = self._surrogates[key]
        if how_many_at_once(surrogate, settings.device, settings.batch) > 1:
            self._explore_together(jobs, calculator)
        for job in jobs:
            if job.answer is None:
                self._explore_alone(job, calculator)

    def _explore_together(self, jobs: Sequence[_Job], calculator: Any) -> None:
        """Answer as many jobs as possible; those that are left are to be tried alone."""
        forces = make_batch_forces(calculator)
        tracks: list[tuple[_Job, Track]] = []
        for job in jobs:
            try:
                forces.check_elements(job.task.atoms().get_chemical_symbols())
                tracks.append((job, self._track(job)))
            except AutopipeError as error:
                job.answer = error
        begin, done = time.perf_counter(), sum(track.step * len(track.atoms) for _, track in tracks)
        try:
            ended = LangevinBatch([track for _, track in tracks], forces).run()
        # One of them is the cause, perhaps; alone it shows which, and the others go on from their checkpoints.
        except Exception as error:
            logger.warning("%d trajectories at once: %s: %s; now one by one", len(tracks), type(error).__name__, error)
            return
        made = sum(track.step * len(track.atoms) for _, track in tracks) - done
        speed = Speed(device_of(calculator), len(tracks), made / (time.perf_counter() - begin))
        for (job, _), outcome in zip(tracks, ended, strict=True):
            job.answer = self._record(job, outcome, speed) if isinstance(outcome, Ended) else outcome

    def _explore_alone(self, job: _Job, calculator: Any) -> None:
        try:
            track = self._track(job)
            begin, done = time.perf_counter(), track.step
            ended = LangevinRun(track, calculator).run()
            made = (ended.step - done) * len(track.atoms)
            job.answer = self._record(job, ended, Speed(device_of(calculator), 1, made / (time.perf_counter() - begin)))
        except AutopipeError as error:
            job.answer = error
        # Calculators fail by exceptions of any kind, and a seed that it cannot compute must not end the process.
        except Exception as error:
            said = f"{job.surrogate['kind']}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            if isinstance(error, NotImplementedError | KeyError):
                job.answer = DataError(said, "the surrogate does not know an element, or has no stress")
            else:
                job.answer = Crashed(said, "look at the seed, or at the surrogate")

    def _track(self, job: _Job) -> Track:
        """Return the trajectory where it stands, on the disk or at its start."""
        w, folder = job.wanted, job.folder
        job.resumed = inherit(folder)

        def told(step: int) -> None:
            write_json(folder / PROGRESS, {"step": step, "steps": w["steps"]}, fsync=False)

        return Track(
            job.task.atoms(),
            Conditions(w["temperature"], w["pressure_bar"], w["steps"], w["stride"], w["timestep_fs"], w["seed"]),
            folder, checkpoint_s=self._settings.checkpoint_s, told=told,
        )  # fmt: skip

    def _record(self, job: _Job, ended: Ended, speed: Speed) -> Answer:
        try:
            name = self._keep(job.task, job.folder) if ended.frames else ""
        except OSError as error:
            return Crashed(f"{job.folder}: its frames cannot be kept: {error}", "is the disk full?", transient=True)
        return make_exploration(
            job.task, frames=name, n_frames=ended.frames, steps=ended.step, complaint=ended.complaint,
            info={"resumed_from_step": job.resumed, **asdict(speed)}, worker=self._settings.worker,
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
