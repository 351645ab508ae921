"""The task queue of one kind of task: files that anybody may look at and move by hand (see `queue_layout.md`).

The label's existence is the effect: a task is done when its result exists, so a worker that wakes up too late cannot
make a second label. Everything else is bookkeeping that a sweep repairs.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from math import floor
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.clock import Clock, SystemClock
from mlip_autopipec.store.census import Census
from mlip_autopipec.store.claims import Claim, Claims, RetryPolicy
from mlip_autopipec.store.delay import stamp
from mlip_autopipec.store.guard import guard
from mlip_autopipec.store.history import History
from mlip_autopipec.store.layout import STATES, Layout, id_in_name, split_not_before
from mlip_autopipec.store.lease import Lease, LeaseWatch
from mlip_autopipec.store.operator import Operator
from mlip_autopipec.store.repairs import Repairs
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.sweep import Sweeper
from mlip_autopipec.store.task import Task
from mlip_autopipec.store.transitions import Transitions, priority_of

__all__ = ["Claim", "TaskQueue"]

# Not-before times are in whole seconds.
_PROMOTION_S: Final = 0.2


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
        How often a task is tried again after transient failures, and the wait before the first time, s; it doubles
        with each further time.
    fsync
        Whether publishing waits for the disk (results have their own setting).
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
        clock = clock or SystemClock()
        settle_s = lease_s / 4
        self.layout = Layout(root)
        self.results = results
        self.worker = worker
        self.lease_s = lease_s
        self._guarded = False
        self._clock = clock
        self._next_promotion = clock.monotonic()
        self.history = History(attempts or results.folder.parent / "attempts", clock, worker)
        self._moves = Transitions(self.layout, results, self.history, clock, worker, fsync=fsync)
        self._census = Census(self.layout, results)
        watch = LeaseWatch(self.layout, lease_s, clock)
        repairs = Repairs(self._moves, self._census, watch, lease_s, settle_s, clock)
        self._sweeper = Sweeper(self._moves, self._census, repairs, clock)
        self._operator = Operator(self._moves, self._census)
        self._claims = Claims(
            self._moves,
            self._census,
            Lease(self.layout, worker, lease_s, clock),
            watch,
            policy=RetryPolicy(retries, retry_delay_s),
            settle_s=settle_s,
            clock=clock,
            rng=rng or random.Random(),
        )

    # -- publishing ----------------------------------------------------------------------------------------------

    def publish(self, task: Task) -> bool:
        """Put a task into `pending/`; False if its id is known already, in any state.

        Raises
        ------
        QueueError
            The disk is full (transient: call again), or strangers may write to the queue's folders.
        """
        self._guard()
        if self._census.is_known(task.id, task.priority):
            return False
        self._moves.publish(task)
        return True

    # -- working -------------------------------------------------------------------------------------------------

    def claim(self) -> Claim | None:
        """Take the most uncertain task, or return None if there is none to take.

        Raises
        ------
        QueueError
            Another living process works under the same name, or strangers may write to the queue's folders.
        """
        if self._claims.is_new():
            self._guard()
            if not self._claims.may_start():
                return None
            self.layout.create()
            # What an earlier process of this name left behind.
            self.return_tasks_of(self.worker)
        self._claims.show_life()
        if (now := self._clock.monotonic()) >= self._next_promotion:
            self._next_promotion = now + _PROMOTION_S
            self.promote()
        return self._claims.take()

    def beat(self) -> list[str]:
        """Show that this worker lives; return the held ids that somebody cancelled."""
        return self._claims.beat()

    def cancelled(self, task_id: str) -> bool:
        """True if somebody cancelled this task while it was running."""
        return self._claims.cancelled(task_id)

    def holds(self, claim: Claim) -> bool:
        """True while the task's file is where the claim put it (a person or a reaper may take it away)."""
        return self._claims.holds(claim)

    def complete(self, claim: Claim, record: Mapping[str, Any]) -> bool:
        """Store the result, then move the task to `done/`; True if this result is the first of this task.

        Raises
        ------
        DataError
            The record is no valid result of this task.
        QueueError
            The disk is full (transient): the claim stays, call again.
        """
        return self._claims.complete(claim, record)

    def fail(self, claim: Claim, reason: str, *, transient: bool) -> str:
        """Report a failure.

        Returns
        -------
        str
            "retry" (the task waits in `delayed/`), "failed", "cancelled" (a marker was there), or "lost" (the task was
            not ours any more or got a label elsewhere).
        """
        return self._claims.fail(claim, reason, transient=transient)

    def give_back(self, claim: Claim, reason: str) -> None:
        """Return a task unlabelled (SIGTERM); not counted as an attempt. A cancelled one goes to `cancelled/`."""
        self._claims.give_back(claim, reason)

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
            due = split_not_before(name)[0] <= now
            if task_id and due and self._moves.to_pending(self.layout.delayed / name, task_id):
                ids.append(task_id)
        return ids

    def release(self) -> None:
        """End working (clean exit): what is still held goes back, the lease is dropped."""
        self._claims.release()

    # -- looking -------------------------------------------------------------------------------------------------

    def state(self, task_id: str) -> str | None:
        """Return pending, delayed, held, running, done, failed, cancelled or corrupt; None for an unknown id."""
        return self._census.state(task_id)

    def find(self, task_id: str) -> Path | None:
        """Return where the task's file is, or None."""
        found = self._census.find(task_id)
        return found[1] if found else None

    def matching(self, prefix: str) -> list[str]:
        """Return the ids that begin with `prefix`."""
        return self._census.matching(prefix)

    def reason(self, task_id: str) -> str | None:
        """Return why a task last failed, was given back or was refused; None if nothing happened to it."""
        told = [event["reason"] for event in self.history.read(task_id) if event.get("reason")]
        return str(told[-1]) if told else None

    def counts(self) -> dict[str, int]:
        """Return the number of task files in each state."""
        return {state: self._census.count(state) for state in STATES}

    def unfinished(self) -> int:
        """Return the number of tasks that may still get a label without anybody's help: pending, delayed, running."""
        return sum(self._census.count(state) for state in ("pending", "delayed", "running"))

    def ls(self, state: str | None = None) -> Iterator[tuple[str, str, float | None, Path]]:
        """Iterate over (state, id, priority, path) of one state, or of all; pending ones in the order of claims.

        A file without an id in its name is listed under its name.
        """
        for wanted in STATES if state is None else (state,):
            for found in sorted(self._census.files(wanted), key=lambda f: f.parts):
                yield wanted, found.task_id or found.path.name, priority_of(found.path), found.path

    # -- repairing and operating ---------------------------------------------------------------------------------

    def sweep(self, *, every_s: float = 0.0) -> list[str]:
        """Do one pass of repairs, and return what was done; nothing if the last pass was less than `every_s` ago.

        Acts only on what it has seen unchanged for one lease, so it takes two passes at least.
        """
        if not self._sweeper.is_due(every_s):
            return []
        self._guard()
        promoted = [f"{task_id}: delayed -> pending, its time has come" for task_id in self.promote()]
        return promoted + self._sweeper.sweep()

    def plan(self) -> list[str]:
        """Return what `sweep` would do if nothing changed for one lease; changes nothing."""
        return self._sweeper.plan()

    def revivable(self) -> int:
        """Return the number of tasks that sweeping would make claimable if nothing changed for one lease."""
        return self._sweeper.revivable()

    def return_tasks_of(self, worker: str) -> list[str]:
        """Return the tasks of a worker whose process is known to have ended (the supervisor's own child)."""
        return self._sweeper.return_tasks_of(worker, "its process ended")

    def requeue(self, task_id: str, *, dry_run: bool = False) -> str:
        """Make a task pending again with fresh attempts; a done one is labelled anew, its result is kept aside.

        Returns one line that says what was (or would be) done.

        Raises
        ------
        NotFoundError
            Nobody knows the id.
        QueueError
            It is running.
        DataError
            It is in `corrupt/` and still not readable.
        """
        self._guard()
        return self._operator.requeue(task_id, dry_run=dry_run)

    def cancel(self, task_id: str, *, dry_run: bool = False) -> str:
        """Cancel a task; if it is running, its worker sees the marker at its next beat.

        Returns one line that says what was (or would be) done.

        Raises
        ------
        NotFoundError
            Nobody knows the id.
        QueueError
            It is done, failed, cancelled or corrupt already.
        """
        self._guard()
        return self._operator.cancel(task_id, dry_run=dry_run)

    def retry(self, task_id: str, *, dry_run: bool = False) -> str:
        """Make a failed task pending again with fresh attempts; as `requeue`, but for failed ones only."""
        self._guard()
        return self._operator.retry(task_id, dry_run=dry_run)

    def hold(self, task_id: str, *, dry_run: bool = False) -> str:
        """Park a waiting task in `held/`. Raises `QueueError` if it does not wait, `NotFoundError` if unknown."""
        self._guard()
        return self._operator.hold(task_id, dry_run=dry_run)

    def let_go(self, task_id: str, *, dry_run: bool = False) -> str:
        """Make a held task pending again. Raises `QueueError` if it is not held, `NotFoundError` if unknown."""
        self._guard()
        return self._operator.let_go(task_id, dry_run=dry_run)

    def prioritise(self, task_id: str, bucket: str | None, *, dry_run: bool = False) -> str:
        """Move a waiting task to a bucket of `pending/`, None: to that of its gamma. Raises as `hold`."""
        self._guard()
        return self._operator.prioritise(task_id, bucket, dry_run=dry_run)

    def _guard(self) -> None:
        if not self._guarded:
            guard(self.layout, self.results.folder)
            self._guarded = True
