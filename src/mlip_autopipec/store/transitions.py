"""Moves of task files between states. A file moves by plain rename only, so it is always in exactly one place."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.clock import Clock, iso_time
from mlip_autopipec.core.errors import DataError, QueueError
from mlip_autopipec.core.files import fsync_directory, write_json
from mlip_autopipec.store.delay import ServerTime, stamp
from mlip_autopipec.store.document import MAX_BYTES, dump_document, read_regular, write_new
from mlip_autopipec.store.history import History
from mlip_autopipec.store.layout import (
    Layout,
    bucket_of,
    priority_in_name,
    reason_path,
    split_not_before,
    task_name,
)
from mlip_autopipec.store.lease import read_lease
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.task import Task

log = logging.getLogger(__name__)

_PRIORITY_IN_HEAD = re.compile(rb'"priority": ([0-9.e+]{1,24})')
# A task that goes down with its worker again and again is probably what kills it (memory, mostly).
MAX_LOSSES: Final = 10
_MAX_NAME_BYTES: Final = 200


def move(source: Path | str, target: Path | str, *, own_target: bool = False) -> bool:
    """Rename, and say whether this call moved the file.

    Parameters
    ----------
    own_target
        Nobody else moves files to `target`. Then a file that is found there was moved by this call, even if the
        rename reported ENOENT or ESTALE: over NFS it can succeed and lose its reply.
    """
    for _ in range(3):
        try:
            os.rename(source, target)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            if own_target and os.path.lexists(target):
                return True
            if not os.path.lexists(source):
                return False
            os.makedirs(os.path.dirname(target), exist_ok=True)
        else:
            return True
    return False


def priority_of(path: Path) -> float | None:
    """Return a task file's priority from its name, or else from its first bytes; None if neither tells."""
    if (named := priority_in_name(path.name)) is not None:
        return named
    try:
        match = _PRIORITY_IN_HEAD.search(read_regular(path, 2048))
        return float(match.group(1)) if match else None
    except (OSError, DataError, ValueError):
        return None


def is_copy(one: Path, other: Path) -> bool | None:
    """Return whether both are regular files of the same bytes; None if one of them has just gone."""
    try:
        return read_regular(one, MAX_BYTES + 1) == read_regular(other, MAX_BYTES + 1)
    except DataError:
        return False
    except OSError:
        return None


def _is_other_file(keeper: Path, aside: Path) -> bool:
    """Return whether the keeper exists, and is not a file that was moved from there to `aside`.

    NFS shows other hosts' moves late: for up to a minute a name is seen, and read from, whose file is elsewhere.
    """
    try:
        one, other = os.lstat(keeper), os.lstat(aside)
    except OSError:
        return False
    return not os.path.samestat(one, other) or other.st_nlink > 1


class Transitions:
    """Every change of state of one queue, with its history entry.

    Methods return whether this call moved the file; False means that somebody else was faster, which is never an
    error here.
    """

    def __init__(
        self, layout: Layout, results: Results, history: History, clock: Clock, worker: str, *, fsync: bool = True
    ) -> None:
        self.layout = layout
        self.results = results
        self.history = history
        self._clock = clock
        self._worker = worker
        self._fsync = fsync
        self.server_time = ServerTime(layout.tmp, clock)

    def publish(self, task: Task) -> None:
        """Write a new task's file: in `tmp/` first, so that nobody sees half of it.

        Raises
        ------
        QueueError
            The disk is full (transient).
        """
        target = self.layout.pending_path(task.priority, task.id)
        if not target.parent.is_dir() or not self.layout.tmp.is_dir():
            self.layout.create()
        data = dump_document(task.to_dict()).encode()
        # A publisher that was stopped for longer than a lease finds its temporary file swept away.
        for _ in range(3):
            temporary = self.layout.tmp / f"{task.id}.{secrets.token_hex(6)}.tmp"
            write_new(temporary, data, fsync=self._fsync)
            if move(temporary, target, own_target=True):
                break
        else:
            raise QueueError(f"task {task.id}: {target} cannot be made", "who removes files from tmp/?", transient=True)
        if self._fsync:
            fsync_directory(target.parent)

    def to_pending(self, path: Path, task_id: str, bucket: str | None = None) -> bool:
        """File a task by its priority, or into `bucket`."""
        return self.place(path, self._waiting_path(path, task_id, bucket))

    def may_file(self, path: Path, task_id: str) -> bool:
        """True if a file in `pending/` tells its priority, and no other file is where it belongs."""
        return priority_of(path) is not None and not os.path.lexists(self._waiting_path(path, task_id))

    def to_delayed(self, path: Path, task_id: str, delay_s: float) -> bool:
        """Let a task wait until `delay_s` from now, by the file server's clock."""
        until = stamp(self.server_time.now() + delay_s)
        return move(path, self.layout.delayed / f"{until}-{self._waiting_name(path, task_id)}")

    def to_held(self, path: Path, task_id: str) -> bool:
        """Park a waiting task."""
        return self.place(path, self.layout.held / self._waiting_name(path, task_id))

    def to_done(self, path: Path, task_id: str) -> bool:
        """Move a task whose result exists to `done/`."""
        return self.place(path, self.layout.done_path(task_id))

    def to_failed(self, path: Path, task_id: str, reason: str) -> bool:
        """Give a task up; the reason lies beside it."""
        target = self.layout.failed_path(task_id)
        self._write_reason(target, reason)
        if not move(path, target):
            return False
        self.history.add(task_id, "failed", reason=reason)
        return True

    def to_cancelled(self, path: Path, task_id: str) -> bool:
        """Move a cancelled task to `cancelled/`, then take the marker away."""
        if not move(path, self.layout.cancelled_path(task_id)):
            return False
        self.history.add(task_id, "cancelled")
        with contextlib.suppress(OSError):
            self.layout.cancel_marker(task_id).unlink()
        return True

    def to_corrupt(self, path: Path, task_id: str | None, reason: str) -> bool:
        """Quarantine a file that is no valid task, under its own name, with the reason beside it."""
        # Numbers go in front and long names lose their front: the id has to stay the end of the name.
        name = os.fsdecode(os.fsencode(path.name)[-_MAX_NAME_BYTES:])
        target = self.layout.corrupt / name
        number = 1
        while os.path.lexists(target):
            number += 1
            target = self.layout.corrupt / f"copy{number}-{name}"
        self._write_reason(target, reason)
        if not move(path, target):
            return False
        log.warning("%r is no valid task and went to corrupt/: %r", path.name, reason)
        if task_id is not None:
            self.history.add(task_id, "corrupt", reason=reason)
        return True

    def lost(self, path: Path, task_id: str, worker: str, reason: str) -> str | None:
        """Take a task back from a worker that ended or forgot it; return where to, or None if it was gone."""
        if self.results.exists(task_id):
            return "done" if self.to_done(path, task_id) else None
        losses = self.history.count(task_id, "lost") + 1
        if losses >= MAX_LOSSES:
            reason = f"{losses} workers ended while they held this task; the last: {worker}, {reason}"
            return "failed" if self.to_failed(path, task_id, reason) else None
        told = self._told_of(path, worker)
        if not self.to_pending(path, task_id):
            return None
        self.history.add(task_id, "lost", reason=reason, of_worker=worker, **told)
        return "pending"

    def _told_of(self, path: Path, worker: str) -> dict[str, Any]:
        """Return what a claim would have told if its worker had lived: when and where."""
        told: dict[str, Any] = {}
        with contextlib.suppress(OSError):
            # Nobody writes to a task file, so this is when it was renamed into its worker's folder.
            told["claimed"] = iso_time(path.lstat().st_ctime)
        if host := (read_lease(self.layout, worker) or {}).get("host"):
            told["of_host"] = str(host)
        return told

    def remove_copy(self, path: Path, keeper: Path) -> bool:
        """Remove a second file of the same task, if it is byte by byte the same; quarantine it otherwise."""
        same = is_copy(path, keeper)
        if same is None:
            return False
        if not same:
            return self.to_corrupt(path, None, f"differs from {keeper}, which has the same id")
        # Out of reach first and only then away, so that two who clean up cannot each remove the other's keeper.
        aside = self.layout.tmp / f"copy-{secrets.token_hex(4)}-{path.name}"
        if not move(path, aside, own_target=True):
            return False
        if not _is_other_file(keeper, aside):
            move(aside, path)
            return False
        # Over the keeper, not just away: should it be gone by now, then this is it.
        if move(aside, keeper):
            # Of hard links of one file the rename leaves both.
            aside.unlink(missing_ok=True)
        return True

    def place(self, path: Path, target: Path) -> bool:
        """Move without ever overwriting a different file of the same name."""
        if path == target:
            return True
        if os.path.lexists(target) and os.path.lexists(path):
            return self.remove_copy(path, target)
        self._drop_reason(path)
        return move(path, target)

    def _waiting_path(self, path: Path, task_id: str, bucket: str | None = None) -> Path:
        name = self._waiting_name(path, task_id)
        return self.layout.pending / (bucket or bucket_of(priority_in_name(name) or 0.0)) / name

    @staticmethod
    def _waiting_name(path: Path, task_id: str) -> str:
        """Return the name for `pending/` and `delayed/`: the present one if it tells the priority."""
        _, name = split_not_before(path.name)
        if priority_in_name(name) is not None and len(os.fsencode(name)) <= _MAX_NAME_BYTES:
            return name
        priority = priority_of(path)
        return f"{task_id}.json" if priority is None else task_name(priority, task_id)

    def _write_reason(self, target: Path, reason: str) -> None:
        path = reason_path(target)
        record = {"reason": reason, "time": iso_time(self._clock.wall()), "worker": self._worker}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, record, fsync=False)
        except OSError as error:
            log.warning("reason %r not written to %s: %s", reason, path, error)

    def _drop_reason(self, path: Path) -> None:
        if path.parent in (self.layout.failed, self.layout.corrupt):
            with contextlib.suppress(OSError):
                reason_path(path).unlink()
