"""What exploration leaves in `explored/`: a result and a file of frames for each trajectory, and one selection.

The result of a trajectory is a record like that of a label, made once; it names the file of its frames, which was
complete before. The selection is made once, too: whoever comes first decides what is picked.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import ase.io
from ase import Atoms

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import fsync_directory, read_json, write_json
from mlip_autopipec.store.document import through_json
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.schema import upgraded
from mlip_autopipec.store.task import Task, check_time

SCHEMA: Final = 1
SELECTION: Final = "selection.json"
MAP: Final = "map.npz"
"""Where each structure of the pool stands along the first two components, and which were picked."""
_KEYS: Final = {"schema", "id", "worker", "finished", "frames", "n_frames", "steps", "complaint", "info", "task"}


def explored_results(run: RunDirectory, *, fsync: bool = True) -> Results:
    """Return the results of the run's trajectories."""
    return Results(run.explored, fsync=fsync, check=check_exploration)


def make_exploration(
    task: Task, *, frames: str, n_frames: int, steps: int, complaint: str, info: Mapping[str, Any], worker: str,
    finished: str,
) -> dict[str, Any]:  # fmt: skip
    """Return the record of one trajectory.

    Parameters
    ----------
    frames
        Name of the file of frames in the folder of the record.
    complaint
        Why it was stopped before its steps; empty if it was not.
    finished
        ISO 8601, UTC.

    Raises
    ------
    DataError
        A value is missing or makes no sense.
    """
    return check_exploration(
        {
            "schema": SCHEMA, "id": task.id, "worker": worker, "finished": finished, "frames": frames,
            "n_frames": n_frames, "steps": steps, "complaint": complaint, "task": task.to_dict(),
            "info": through_json("exploration.info", dict(info)),
        }
    )  # fmt: skip


def check_exploration(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record as a dict if it is that of a trajectory; raise `DataError` otherwise."""
    record = upgraded("exploration", record, SCHEMA, {})
    if set(record) != _KEYS:
        raise DataError(f"exploration: keys {sorted(map(str, set(record) ^ _KEYS))} are missing or unknown")
    task = Task.from_dict(record["task"])
    if record["id"] != task.id:
        raise DataError(f"exploration.id: {record['id']!r}, but its task is {task.id}")
    for key in ("n_frames", "steps"):
        if type(record[key]) is not int or record[key] < 0:
            raise DataError(f"exploration.{key}: {record[key]!r} is no number of at least 0")
    for key in ("worker", "frames", "complaint"):
        if not isinstance(record[key], str):
            raise DataError(f"exploration.{key}: {record[key]!r} is no text")
    if "/" in record["frames"] or not isinstance(record["info"], dict):
        raise DataError("exploration: frames is no plain file name, or info no object")
    check_time("exploration.finished", record["finished"])
    return {**record, "task": task.to_dict()}


def frames_of(run: RunDirectory, record: Mapping[str, Any]) -> Iterator[Atoms]:
    """Yield the frames of one trajectory, one in memory at a time.

    Raises
    ------
    DataError
        The file is gone or damaged.
    """
    if not record["n_frames"]:
        return
    path, number = run.explored / record["id"][:2] / record["frames"], 0
    try:
        for atoms in ase.io.iread(path, index=f":{record['n_frames']}", format="extxyz"):
            number += 1
            yield atoms
    except Exception as error:  # ASE's readers raise anything at all
        raise DataError(f"{path}: cannot be read: {error}", "requeue the trajectory, or remove its result") from error
    if number != record["n_frames"]:
        raise DataError(f"{path}: {number} frames, its result says {record['n_frames']}", "requeue the trajectory")


@dataclass(frozen=True)
class Pick:
    """One structure worth a label.

    Attributes
    ----------
    source : id of the trajectory's task, or "seed"
    number : of the frame in its file, or of the seed in `start.dataset`; from 0
    config_type : of the seed that it comes from
    task_id : of its label
    """

    source: str
    number: int
    config_type: str
    task_id: str


@dataclass(frozen=True)
class SelectionRecord:
    """What was picked, from what, and how well it covers that.

    Attributes
    ----------
    created : ISO 8601, UTC
    picks : structures
    pool : numbers of "seeds", "frames", "environments", "trajectories", and those "failed"
    coverage : share of the pool's occupied bins that the picks reach, and that of as many "random" structures
    remark : what a person should know; empty if nothing
    published : True once every pick has its task
    """

    created: str
    picks: tuple[Pick, ...]
    pool: dict[str, int]
    coverage: dict[str, float]
    remark: str = ""
    published: bool = False

    def by_kind(self) -> dict[str, int]:
        """Return config_type -> number of picks."""
        return dict(sorted(Counter(pick.config_type for pick in self.picks).items()))

    def write_once(self, run: RunDirectory) -> bool:
        """Write unless there is one; True if this one counts now."""
        run.explored.mkdir(parents=True, exist_ok=True)
        target = run.explored / SELECTION
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
        write_json(temporary, asdict(self))
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        fsync_directory(target.parent)
        return True

    def replace(self, run: RunDirectory) -> None:
        """Write over the earlier one."""
        write_json(run.explored / SELECTION, asdict(self))

    @classmethod
    def read(cls, run: RunDirectory) -> SelectionRecord | None:
        """Return the run's selection, None if there is none yet.

        Raises
        ------
        DataError
            The file is damaged.
        """
        path = run.explored / SELECTION
        try:
            data = read_json(path)
            return cls(**{**data, "picks": tuple(Pick(**pick) for pick in data["picks"])})
        except FileNotFoundError:
            return None
        except (TypeError, KeyError) as error:
            raise DataError(f"{path}: no selection: {error}", "remove it, and it is made anew") from error
