"""The sweep: brings every state that crashes and hands can make back to one that the queue itself would make.

It acts only on what it has seen unchanged for one lease, since the files of other hosts come into sight late.
"""

from __future__ import annotations

import logging
import os
from typing import Final

from mlip_autopipec.core.clock import Clock
from mlip_autopipec.store.census import Census
from mlip_autopipec.store.repairs import Repairs, Wish
from mlip_autopipec.store.transitions import Transitions

log = logging.getLogger(__name__)

# A pass looks at as many sub-folders of done/ as it can in this time, and goes on there in the next.
_DONE_BUDGET_S: Final = 0.2


class Sweeper:
    """Repairs one queue; remembers between passes what it saw."""

    def __init__(self, moves: Transitions, census: Census, repairs: Repairs, clock: Clock) -> None:
        self._moves = moves
        self._census = census
        self._repairs = repairs
        self._clock = clock
        self._since: dict[tuple[object, ...], float] = {}
        self._last: float | None = None
        self._next_shard = ""

    def is_due(self, every_s: float) -> bool:
        """True if the last pass was at least `every_s` ago."""
        return self._last is None or self._clock.monotonic() - self._last >= every_s

    def sweep(self) -> list[str]:
        """Do one pass; return what was done."""
        now = self._last = self._clock.monotonic()
        wishes, unseen = self._look(_DONE_BUDGET_S)
        since = {seen: at for seen, at in self._since.items() if seen[0] in unseen}
        did = []
        for wish in wishes:
            first_seen = self._since.get(wish.seen, now)
            if now - first_seen < wish.patience_s:
                since[wish.seen] = first_seen
            elif self._act(wish):
                did.append(wish.text)
        self._since = since
        for text in did:
            log.info("sweep: %s", text)
        return did

    @staticmethod
    def _act(wish: Wish) -> bool:
        try:
            return bool(wish.act())
        except OSError as error:
            # One file that cannot be moved must not stop the others.
            log.warning("sweep: %s: %s", wish.text, error)
            return False

    def plan(self) -> list[str]:
        """Return what would be done if everything stayed as it is."""
        return [wish.text for wish in self._look(float("inf"))[0]]

    def revivable(self) -> int:
        """Return the number of tasks that could be claimed after repairs, as far as a quick look shows."""
        return sum(wish.revives for wish in self._look(_DONE_BUDGET_S)[0])

    def return_tasks_of(self, worker: str, reason: str) -> list[str]:
        """Return all tasks of a worker that is known to have ended; return the ids that were moved."""
        ids = []
        for found in list(self._census.files("running")):
            if found.worker != worker or not found.task_id:
                continue
            try:
                if self._moves.lost(found.path, found.task_id, worker, reason):
                    ids.append(found.task_id)
            except OSError as error:
                # The others must not wait for this one; a sweep brings it back after the lease.
                log.warning("task %s of %s: not returned yet: %s", found.task_id, worker, error)
        self._repairs.bury(worker)
        return ids

    def _look(self, budget_s: float) -> tuple[list[Wish], set[str]]:
        """Return all wishes of this pass, and the sub-folders of `done/` that it had no time for."""
        wishes = list(self._repairs.active())
        try:
            shards = sorted(e.name for e in os.scandir(self._moves.layout.done) if e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            shards = []
        # Round robin: those after the last one seen come first.
        waiting = [s for s in shards if s >= self._next_shard] + [s for s in shards if s < self._next_shard]
        started = self._clock.monotonic()
        while waiting and self._clock.monotonic() - started <= budget_s:
            wishes += self._repairs.done(waiting.pop(0))
        self._next_shard = waiting[0] if waiting else ""
        return wishes, {f"done/{shard}" for shard in waiting}
