"""Folders and file names of one queue (`queue/<kind>/`); pure names, nothing is read or written here.

`queue_layout.md` tells the same for people; a test compares the two.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Final

from mlip_autopipec.core.errors import QueueError

STATES: Final = ("pending", "delayed", "held", "running", "done", "failed", "cancelled", "corrupt")
# Folders that hold no task's state.
SERVICE_FOLDERS: Final = ("cancel", "leases", "tmp")

# Folder in pending/ and the smallest gamma that is filed there. A claim goes through the folders in lexical order.
# The first and the last are for people: nothing is filed there by priority.
FIRST_BUCKET: Final = "00-first"
LAST_BUCKET: Final = "99-last"
GAMMA_BUCKETS: Final = (
    ("10-gamma-1000", 1000.0),
    ("20-gamma-300", 300.0),
    ("30-gamma-100", 100.0),
    ("40-gamma-30", 30.0),
    ("50-gamma-10", 10.0),
    ("60-gamma-5", 5.0),
    ("70-gamma-2", 2.0),
    ("80-gamma-0", 0.0),
)
BUCKETS: Final = (FIRST_BUCKET, *(name for name, _ in GAMMA_BUCKETS), LAST_BUCKET)

MAX_PRIORITY: Final = 1e9
_FOLDER_MODE: Final = 0o775

_TASK_NAME = re.compile(r"(?:.*[^0-9a-f])?([0-9a-f]{20})\.json")
_PRIORITY = re.compile(r"(?:.*-)?g([0-9]{1,10}(?:\.[0-9]{1,3})?)-[0-9a-f]{20}\.json")
_NOT_BEFORE = re.compile(r"([0-9]{8}T[0-9]{6}Z)-(.+)", re.DOTALL)
_WORKER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,127}")


def check_worker_name(worker: str) -> str:
    """Return `worker` if it can be a folder name.

    Raises
    ------
    QueueError
        It is empty, too long, starts with a dot or holds other characters than letters, digits and ``_ . @ -``.
    """
    if not _WORKER.fullmatch(worker):
        raise QueueError(f"worker name {worker!r} is not usable", "use letters, digits and _ . @ - (at most 128)")
    return worker


def bucket_of(priority: float) -> str:
    """Return the folder in `pending/` for a priority (gamma, at least 0)."""
    return next((name for name, lowest in GAMMA_BUCKETS if priority >= lowest), GAMMA_BUCKETS[-1][0])


def task_name(priority: float, task_id: str) -> str:
    """Return the file name of a waiting task, `<rank>-g<gamma>-<id>.json`.

    The rank, ``9999 - 1000 log10(1 + gamma)`` in four digits, makes `ls` show the most uncertain first; gamma follows
    in plain digits for the reader.
    """
    gamma = min(max(priority, 0.0), MAX_PRIORITY)
    rank = 9999 - round(1000 * math.log10(1 + gamma))
    text = f"{gamma:.0f}" if gamma >= 1000 else f"{gamma:.3f}".rstrip("0").rstrip(".")
    return f"{rank:04d}-g{text}-{task_id}.json"


def id_in_name(name: str) -> str | None:
    """Return the task id that a file name ends with (`<anything>-<id>.json` or `<id>.json`), or None."""
    if name.startswith("."):
        return None
    match = _TASK_NAME.fullmatch(name)
    return match.group(1) if match else None


def priority_in_name(name: str) -> float | None:
    """Return gamma from a file name that carries it, or None."""
    match = _PRIORITY.fullmatch(name)
    return float(match.group(1)) if match else None


def split_not_before(name: str) -> tuple[str, str]:
    """Return (not-before stamp or "", rest of the name) of a file name in `delayed/`."""
    match = _NOT_BEFORE.fullmatch(name)
    return (match.group(1), match.group(2)) if match else ("", name)


class Layout:
    """Paths inside one queue folder.

    Parameters
    ----------
    root
        The queue's folder, e.g. `queue/dft`.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.pending = self.root / "pending"
        self.delayed = self.root / "delayed"
        self.held = self.root / "held"
        self.running = self.root / "running"
        self.done = self.root / "done"
        self.failed = self.root / "failed"
        self.cancelled = self.root / "cancelled"
        self.corrupt = self.root / "corrupt"
        self.cancel = self.root / "cancel"
        self.leases = self.root / "leases"
        self.tmp = self.root / "tmp"

    def state_folder(self, state: str) -> Path:
        if state not in STATES:
            raise QueueError(f"unknown task state {state!r}", f"states are {', '.join(STATES)}")
        return self.root / state

    def pending_path(self, priority: float, task_id: str) -> Path:
        return self.pending / bucket_of(priority) / task_name(priority, task_id)

    def done_path(self, task_id: str) -> Path:
        return self.done / task_id[:2] / f"{task_id}.json"

    def failed_path(self, task_id: str) -> Path:
        return self.failed / f"{task_id}.json"

    def cancelled_path(self, task_id: str) -> Path:
        return self.cancelled / f"{task_id}.json"

    def cancel_marker(self, task_id: str) -> Path:
        return self.cancel / task_id

    def running_folder(self, worker: str) -> Path:
        return self.running / worker

    def lease_path(self, worker: str) -> Path:
        return self.leases / f"{worker}.json"

    def create(self) -> None:
        """Make all folders (idempotent); never writable for everybody."""
        self.root.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        for name in (*STATES, *SERVICE_FOLDERS):
            (self.root / name).mkdir(mode=_FOLDER_MODE, exist_ok=True)
        for bucket in BUCKETS:
            (self.pending / bucket).mkdir(mode=_FOLDER_MODE, exist_ok=True)


def reason_path(path: Path) -> Path:
    """Return where the reason for a file in `failed/` or `corrupt/` lies: beside it, `<name without .json>.reason`."""
    return path.with_name(f"{path.name.removesuffix('.json')}.reason")
