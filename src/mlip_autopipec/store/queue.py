"""The task queue of one kind of task: files that anybody may look at and move by hand (see `queue_layout.md`).

The label's existence is the effect: a task is done when its result exists, so a worker that wakes up too late cannot
make a second label. Everything else is bookkeeping that a sweep repairs.
"""

from __future__ import annotations

import logging
import os
import random
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

from mlip_autopipec.core.clock import Clock, SystemClock
from mlip_autopipec.core.errors import DataError, QueueError
from mlip_autopipec.core.files import fsync_directory
from mlip_autopipec.store.census import Census
from mlip_autopipec.store.delay import retry_delay, stamp
from mlip_autopipec.store.document import dump_document
from mlip_autopipec.store.history import History
from mlip_autopipec.store.layout import STATES, Layout, id_in_name, split_not_before
from mlip_autopipec.store.lease import Lease, LeaseWatch
from mlip_autopipec.store.operator import Operator
from mlip_autopipec.store.picker import Picker
from mlip_autopipec.store.repairs import Repairs
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.sweep import Sweeper
from mlip_autopipec.store.task import Task
from mlip_autopipec.store.transitions import Transitions, move, priority_of
from mlip_autopipec.store.unsettled import Unsettled

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """A task that this worker holds.

    Attributes
    ----------
    path : the task's file in `running/<worker>/`
    attempt : 1 for the first try since the task was published or renewed
    bucket : the folder in `pending/` that it came from
    """

    task: Task
    path: Path
    attempt: int
    bucket: str


class TaskQueue:
    """One process' view of the queue `root`.

    Constructing it changes nothing on disk. A process that only publishes, looks or operates never takes a lease;
    one that claims has to call `beat` a dozen times per lease.

    Parameters
    ----------
    root
        The queue's folder, e.g. `<run>/queue/dft`.
    results
        The run's results.
    worker
        Name of this process; unique among all that claim.
    attempts
        The run's `attempts/` folder, for histories; by default beside the results.
    lease_s
        A worker whose counter does not move for so long is taken for dead, s.
    retries, retry_delay_s
        How often a task is tried again after transient failures, and the wait before the first time, s.
    fsync
        Whether publishing waits for the disk.
    rng
        For random picks and jitter (tests).
    """

    def __init__(
        self,
        root: Path,
        results: Results,
        *,
        worker: str,
        attempts: Path | None = None,
        lease_s: float = 120.0,
        retries: int = 3,
        retry_delay_s: float = 30.0,
        clock: Clock | None = None,
        fsync: bool = True,
        rng: random.Random | None = None,
    ) -> None:
        self.layout = Layout(root)
        self.results = results
        self.worker = worker
        self.lease_s = lease_s
        self._clock = clock or SystemClock()
        self._retries = retries
        self._retry_delay_s = retry_delay_s
        self._fsync = fsync
        self._rng = rng or random.Random()
        self.history = History(attempts or results.folder.parent / "attempts", self._clock, worker)
        self._moves = Transitions(self.layout, results, self.history, self._clock, worker)
        self._census = Census(self.layout, results)
        self._lease = Lease(self.layout, worker, lease_s, self._clock)
        self._watch = LeaseWatch(self.layout, lease_s, self._clock)
        self._unsettled = Unsettled(lease_s / 4, self._clock)
        self._picker = Picker(self.layout, self._clock, self._rng, self._unsettled.is_usable)
        repairs = Repairs(self._moves, self._census, self._watch, lease_s, lease_s / 4, self._clock)
        self._sweeper = Sweeper(self._moves, self._census, repairs, self._clock)
        self._operator = Operator(self._moves, self._census)
        self._held: dict[str, Claim] = {}

    # -- publishing ----------------------------------------------------------------------------------------------

    def publish(self, task: Task) -> bool:
        """Put a task into `pending/`; False if its id is known already, in any state."""
        if self._census.is_known(task.id, task.priority):
            return False
        target = self.layout.pending_path(task.priority, task.id)
        if not target.parent.is_dir():
            self.layout.create()
        temporary = self.layout.tmp / f"{task.id}.{secrets.token_hex(6)}.tmp"
        with temporary.open("xb") as handle:
            handle.write(dump_document(task.to_dict()).encode())
            if self._fsync:
                handle.flush()
                os.fsync(handle.fileno())
        move(temporary, target)
        if self._fsync:
            fsync_directory(target.parent)
        return True

    # -- working -------------------------------------------------------------------------------------------------

    def claim(self) -> Claim | None:
        """Take the most uncertain task, or return None if there is none to take.

        Raises
        ------
        QueueError
            Another living process of this host works under the same name.
        """
        if not self._lease.active and not self._take_over():
            return None
        self.beat()
        self.promote()
        for source in self._picker.candidates():
            task_id = id_in_name(source.name)
            if task_id is None or task_id in self._held:
                continue
            target = self.layout.running_folder(self.worker) / source.name
            if move(source, target, own_target=True) and (claim := self._examine(source, target, task_id)):
                self._held[task_id] = claim
                self.history.add(task_id, "claimed", attempt=claim.attempt)
                return claim
        return None

    def _examine(self, source: Path, path: Path, task_id: str) -> Claim | None:
        """Look at a file that was just claimed; return None if there is nothing to do for it."""
        if self.results.exists(task_id):
            self._moves.to_done(path, task_id)
            return None
        if self.cancelled(task_id):
            self._moves.to_cancelled(path, task_id)
            return None
        try:
            task = Task.read(path)
        except FileNotFoundError:
            return None
        except DataError as error:
            if self._unsettled.is_settled(path):
                self._moves.to_corrupt(path, task_id, str(error))
            else:
                # Perhaps somebody is still copying it here.
                move(path, source)
            return None
        attempt = 1 + self.history.count(task_id, "retry")
        return Claim(task, path, attempt, source.parent.name)

    def _take_over(self) -> bool:
        """Start working under this name: tasks of an earlier process of the same name go back first."""
        if self._lease.predecessor() == "unknown":
            if self._watch.moved(self.worker):
                raise QueueError(f"worker name {self.worker!r} is in use on another host", "give it another name")
            if not self._watch.is_dead(self.worker):
                log.warning("%s has a lease on another host; waiting for it to run out", self.worker)
                return False
        self.layout.create()
        self.return_tasks_of(self.worker)
        self.layout.running_folder(self.worker).mkdir(exist_ok=True)
        return True

    def beat(self) -> list[str]:
        """Show that this worker lives; return the held ids that somebody cancelled."""
        self._lease.beat(self._held)
        return [task_id for task_id in self._held if self.cancelled(task_id)]

    def cancelled(self, task_id: str) -> bool:
        """True if a cancel marker exists for this task."""
        return os.path.lexists(self.layout.cancel_marker(task_id))

    def holds(self, claim: Claim) -> bool:
        """True while the task's file is where the claim put it (a person or a reaper may take it away)."""
        return os.path.lexists(claim.path)

    def complete(self, claim: Claim, record: Mapping[str, Any]) -> bool:
        """Store the result, then move the task to `done/`; True if this result is the first of this task.

        Raises
        ------
        DataError
            The record is no valid result of this task.
        QueueError
            The disk is full (transient): the claim stays, call again.
        """
        task_id = claim.task.id
        first = self.results.write_once(task_id, record)
        self._held.pop(task_id, None)
        if self._moves.to_done(claim.path, task_id):
            self.history.add(task_id, "done", first=first)
        elif (found := self._census.find(task_id)) and found[0] not in ("running", "done", "corrupt"):
            # Taken from us meanwhile, by a reaper or by hand; it needs no second label.
            self._moves.to_done(found[1], task_id)
        return first

    def fail(self, claim: Claim, reason: str, *, transient: bool) -> str:
        """Report a failure.

        Returns
        -------
        str
            "retry" (the task waits in `delayed/`), "failed", "cancelled" (a marker was there), or "lost" (the task was
            not ours any more, and whoever has it now goes on).
        """
        task_id = claim.task.id
        self._held.pop(task_id, None)
        if not self.holds(claim):
            return "lost"
        if self.cancelled(task_id):
            return "cancelled" if self._moves.to_cancelled(claim.path, task_id) else "lost"
        before = self.history.count(task_id, "retry")
        if not transient or before >= self._retries:
            return "failed" if self._moves.to_failed(claim.path, task_id, reason) else "lost"
        delay_s = retry_delay(self._retry_delay_s, before, self._rng)
        self.history.add(task_id, "retry", reason=reason, delay_s=round(delay_s, 1))
        return "retry" if self._moves.to_delayed(claim.path, delay_s) else "lost"

    def give_back(self, claim: Claim, reason: str) -> None:
        """Return a task unlabelled (SIGTERM); not counted as an attempt. A cancelled one goes to `cancelled/`."""
        task_id = claim.task.id
        self._held.pop(task_id, None)
        if self.cancelled(task_id):
            self._moves.to_cancelled(claim.path, task_id)
        elif self._moves.to_pending(claim.path, task_id, claim.bucket):
            self.history.add(task_id, "given_back", reason=reason)

    def promote(self) -> list[str]:
        """Move the delayed tasks whose time has come to `pending/`; return their ids."""
        try:
            names = sorted(name for name in os.listdir(self.layout.delayed) if id_in_name(name))
        except FileNotFoundError:
            return []
        now = stamp(floor(self._moves.server_time.now())) if names else ""
        ids = []
        for name in names:
            task_id = id_in_name(name)
            if (
                task_id
                and split_not_before(name)[0] <= now
                and self._moves.to_pending(self.layout.delayed / name, task_id)
            ):
                ids.append(task_id)
        return ids

    def release(self) -> None:
        """End working (clean exit): what is still held goes back, the lease is dropped."""
        for claim in list(self._held.values()):
            self.give_back(claim, "the worker ended")
        if self._lease.active:
            self._lease.drop()
            try:
                self.layout.running_folder(self.worker).rmdir()
            except OSError as error:
                log.info("folder of %s stays: %s", self.worker, error.strerror)

    # -- looking -------------------------------------------------------------------------------------------------

    def state(self, task_id: str) -> str | None:
        """Return pending, delayed, held, running, done, failed, cancelled or corrupt; None for an unknown id."""
        return self._census.state(task_id)

    def find(self, task_id: str) -> Path | None:
        """Return where the task's file is, or None."""
        found = self._census.find(task_id)
        return found[1] if found else None

    def reason(self, task_id: str) -> str | None:
        """Return why a task failed last, was given back or is corrupt; None if nothing happened to it."""
        told = [event["reason"] for event in self.history.read(task_id) if event.get("reason")]
        return str(told[-1]) if told else None

    def counts(self) -> dict[str, int]:
        """Return the number of files in each state."""
        return {state: self._census.count(state) for state in STATES}

    def unfinished(self) -> int:
        """Return the number of tasks that may still get a label without anybody's help: pending, delayed, running."""
        return sum(self._census.count(state) for state in ("pending", "delayed", "running"))

    def ls(self, state: str | None = None) -> Iterator[tuple[str, str, float | None, Path]]:
        """Iterate over (state, id, priority, path) of one state, or of all."""
        for wanted in STATES if state is None else (state,):
            for found in sorted(self._census.files(wanted), key=lambda f: f.parts):
                yield wanted, found.task_id or found.path.name, priority_of(found.path), found.path

    # -- repairing and operating ---------------------------------------------------------------------------------

    def sweep(self, *, every_s: float = 0.0) -> list[str]:
        """Do one pass of repairs, and return what was done; nothing if the last pass was less than `every_s` ago.

        Acts only on what it has seen unchanged for one lease, so it takes two passes at least.
        """
        return self._sweeper.sweep(every_s)

    def plan(self) -> list[str]:
        """Return what `sweep` would do if nothing changed for one lease."""
        return self._sweeper.plan()

    def return_tasks_of(self, worker: str) -> list[str]:
        """Return the tasks of a worker whose process is known to have ended (the supervisor's own child)."""
        return self._sweeper.return_tasks_of(worker, "its process ended")

    def requeue(self, task_id: str, *, dry_run: bool = False) -> str:
        """Make a task pending again with fresh attempts; a done one is labelled anew, its result is kept aside."""
        return self._operator.requeue(task_id, dry_run=dry_run)

    def cancel(self, task_id: str, *, dry_run: bool = False) -> str:
        """Cancel a task; if it is running, its worker sees the marker at its next beat."""
        return self._operator.cancel(task_id, dry_run=dry_run)
