"""Claims: one worker's dealings with a task, from the rename that wins it to the one that ends it."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.clock import Clock
from mlip_autopipec.core.errors import DataError, QueueError
from mlip_autopipec.store.census import Census
from mlip_autopipec.store.delay import retry_delay
from mlip_autopipec.store.lease import Lease, LeaseWatch
from mlip_autopipec.store.picker import Picker
from mlip_autopipec.store.schema import NewerSchema
from mlip_autopipec.store.task import Task
from mlip_autopipec.store.transitions import Transitions, move
from mlip_autopipec.store.unsettled import Unsettled

log = logging.getLogger(__name__)

# Of a folder full of rubbish one call looks at so many files, so that the worker gets back to its other duties.
_MAX_REFUSED: Final = 100


@dataclass(frozen=True)
class Claim:
    """A task that this worker holds.

    Attributes
    ----------
    path : the task's file in `running/<worker>/`
    attempt : 1 for the first try since the task was published or renewed
    bucket : the folder in `pending/` that it came from
    since : seconds since the epoch, by the clock of this host
    """

    task: Task
    path: Path
    attempt: int
    bucket: str
    since: float


@dataclass(frozen=True)
class RetryPolicy:
    """How often a task is tried again after transient failures, and the wait before the first time, s."""

    retries: int = 3
    first_delay_s: float = 30.0


class Claims:
    """Claims, completes, fails and gives back in the name of one worker.

    Parameters
    ----------
    settle_s
        How long an unreadable file has to look the same before it is called corrupt, s.
    """

    def __init__(
        self,
        moves: Transitions,
        census: Census,
        lease: Lease,
        watch: LeaseWatch,
        *,
        policy: RetryPolicy,
        settle_s: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._moves = moves
        self._layout = moves.layout
        self._results = moves.results
        self._census = census
        self._lease = lease
        self._watch = watch
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._unsettled = Unsettled(settle_s, clock)
        self._picker = Picker(moves.layout, lease.worker, clock, rng, self._unsettled.is_usable)
        self._held: dict[str, Claim] = {}
        # Text: in a claim, joining paths would take longer than moving the file.
        self._pending = str(moves.layout.pending)
        self._own_folder = str(moves.layout.running_folder(lease.worker))
        self._markers = f"{moves.layout.cancel}/"

    def is_new(self) -> bool:
        """True until the first beat, and again after `release`."""
        return not self._lease.active

    def may_start(self) -> bool:
        """True if nobody else works under this name.

        Raises
        ------
        QueueError
            Another living process does.
        """
        worker = self._lease.worker
        if self._lease.predecessor() != "unknown":
            return True
        if self._watch.moved(worker):
            raise QueueError(f"worker name {worker!r} is in use on another host", "give this worker another name")
        if self._watch.is_dead(worker):
            return True
        log.warning("%s has a lease on another host; waiting for it to run out", worker)
        return False

    def take(self) -> Claim | None:
        """Take the most uncertain pending task; None if there is none."""
        refused = 0
        for bucket, name, task_id in self._picker.candidates():
            if self._is_held(task_id):
                continue
            source, target = f"{self._pending}/{bucket}/{name}", f"{self._own_folder}/{name}"
            try:
                if not move(source, target, own_target=True):
                    continue
                claim = self._examine(source, bucket, Path(target), task_id)
            except OSError as error:
                # One file that cannot be moved (a foreign owner, a folder in its way) must not stop the others.
                log.warning("%r cannot be claimed: %s", name, error)
                self._unsettled.is_settled(Path(source))
                claim = None
            if claim is not None:
                self._held[task_id] = claim
                return claim
            refused += 1
            if refused == _MAX_REFUSED:
                return None
        return None

    def _examine(self, source: str, bucket: str, path: Path, task_id: str) -> Claim | None:
        """Look at a file that was just moved; return None if there is nothing to do for it."""
        if self._results.exists(task_id):
            self._moves.to_done(path, task_id)
            return None
        if self._is_marked(task_id):
            self._moves.to_cancelled(path, task_id)
            return None
        try:
            task = Task.read(path)
        except DataError as error:
            if self._unsettled.is_settled(path) and not isinstance(error, NewerSchema):
                self._moves.to_corrupt(path, task_id, str(error))
            else:
                # Perhaps somebody is still copying it to where it was; or a newer worker understands it.
                move(path, source)
            return None
        except OSError as error:
            log.warning("%r cannot be read now: %s", path.name, error)
            self._unsettled.is_settled(path)
            move(path, source)
            return None
        attempt = 1 + self._moves.history.count(task_id, "retry")
        return Claim(task, path, attempt, bucket, self._clock.wall())

    def _is_held(self, task_id: str) -> bool:
        """True if this worker has the task; one that was taken away meanwhile may be claimed again."""
        claim = self._held.get(task_id)
        return claim is not None and self.holds(claim)

    def _drop(self, claim: Claim) -> None:
        """Hold a task no longer. Its claim goes into its history only now: a new file would be the dearest part of it.

        A worker that dies with the task in its hands is named by whoever takes it back.
        """
        if self._held.get(claim.task.id) is claim:
            del self._held[claim.task.id]
        self._moves.history.add(claim.task.id, "claimed", at=claim.since, attempt=claim.attempt)

    def show_life(self) -> None:
        """Beat, and nothing else."""
        self._lease.beat(self._held)

    def beat(self) -> list[str]:
        """Show that this worker lives; return the held ids that somebody cancelled."""
        self.show_life()
        return [task_id for task_id, claim in self._held.items() if self._is_cancelled(claim)]

    def _is_marked(self, task_id: str) -> bool:
        return os.path.lexists(self._markers + task_id)

    def _is_cancelled(self, claim: Claim) -> bool:
        """True if there is a marker, or somebody moved the file to `cancelled/`."""
        if self._is_marked(claim.task.id):
            return True
        found = None if self.holds(claim) else self._census.find(claim.task.id)
        return found is not None and found[0] == "cancelled"

    def cancelled(self, task_id: str) -> bool:
        """True if somebody wants this task not to be done."""
        claim = self._held.get(task_id)
        return self._is_cancelled(claim) if claim else self._is_marked(task_id)

    def holds(self, claim: Claim) -> bool:
        """True while the file is where the claim put it."""
        return os.path.lexists(claim.path)

    def complete(self, claim: Claim, record: Mapping[str, Any]) -> bool:
        """Store the result, then move the task to `done/`; True if this result is the first."""
        task_id = claim.task.id
        first = self._results.write_once(task_id, record)
        self._drop(claim)
        if self._moves.to_done(claim.path, task_id):
            self._moves.history.add(task_id, "done", first=first)
        elif (found := self._census.find(task_id)) and found[0] not in ("running", "done", "corrupt"):
            # Taken from us meanwhile, by a reaper or by hand; it needs no second label.
            self._moves.to_done(found[1], task_id)
        return first

    def fail(self, claim: Claim, reason: str, *, transient: bool) -> str:
        """Report a failure; see `TaskQueue.fail`."""
        task_id, moves = claim.task.id, self._moves
        self._drop(claim)
        if self._results.exists(task_id):
            moves.to_done(claim.path, task_id)
            return "lost"
        if not self.holds(claim):
            return "lost"
        if self._is_marked(task_id):
            return "cancelled" if moves.to_cancelled(claim.path, task_id) else "lost"
        before = moves.history.count(task_id, "retry")
        if not transient or before >= self._policy.retries:
            return "failed" if moves.to_failed(claim.path, task_id, reason) else "lost"
        delay_s = retry_delay(self._policy.first_delay_s, before, self._rng)
        moves.history.add(task_id, "retry", reason=reason, delay_s=round(delay_s, 1))
        return "retry" if moves.to_delayed(claim.path, task_id, delay_s) else "lost"

    def give_back(self, claim: Claim, reason: str) -> None:
        """Return a task unlabelled, not counted as an attempt; a cancelled one goes to `cancelled/`."""
        task_id = claim.task.id
        self._drop(claim)
        if self._is_marked(task_id):
            self._moves.to_cancelled(claim.path, task_id)
        elif self._moves.to_pending(claim.path, task_id, claim.bucket):
            self._moves.history.add(task_id, "given_back", reason=reason)

    def release(self) -> None:
        """Give back what is still held, and drop the lease."""
        for claim in list(self._held.values()):
            self.give_back(claim, "the worker ended")
        if self._lease.active:
            self._lease.drop()
            try:
                self._layout.running_folder(self._lease.worker).rmdir()
            except OSError as error:
                log.info("the folder of %s stays: %s", self._lease.worker, error.strerror)
