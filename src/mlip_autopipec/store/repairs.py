"""What in a queue looks wrong, and what would put it right; the sweep decides when.

The rules are those of `queue_layout.md`: judge by the result, then by the folder the file lies in.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from mlip_autopipec.core.clock import Clock
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.structure import TASK_ID_PATTERN
from mlip_autopipec.store.census import ACTIVE_STATES, Census, Found
from mlip_autopipec.store.document import read_document
from mlip_autopipec.store.layout import id_in_name
from mlip_autopipec.store.lease import LeaseWatch, read_lease
from mlip_autopipec.store.schema import NewerSchema
from mlip_autopipec.store.task import Task
from mlip_autopipec.store.transitions import Transitions
from mlip_autopipec.store.unsettled import look_of

# Which of several files of one id stays.
_KEEP_ORDER: Final = ("running", "pending", "delayed", "held", "failed", "cancelled")
_MAX_RESULT_CHECKS: Final = 5000
_REVIVED: Final = ("-> pending", "-> its bucket")


@dataclass(frozen=True)
class Wish:
    """One repair that seems due.

    Attributes
    ----------
    seen : what it is based on; first the unit (a folder) in which it was seen
    patience_s : the repair waits until `seen` was seen for so long without a break, s
    act : does it; false if somebody else was faster
    revives : whether it makes a task claimable
    """

    seen: tuple[object, ...]
    patience_s: float
    text: str
    act: Callable[[], object]
    revives: bool = False


class Repairs:
    """Looks through one queue and its results; changes nothing until a wish is acted on.

    Parameters
    ----------
    lease_s
        Patience of most repairs, s.
    settle_s
        How long an unreadable file has to look the same before it is called corrupt, s.
    """

    def __init__(
        self, moves: Transitions, census: Census, watch: LeaseWatch, lease_s: float, settle_s: float, clock: Clock
    ) -> None:
        self._moves = moves
        self._layout = moves.layout
        self._results = moves.results
        self._census = census
        self._watch = watch
        self._lease_s = lease_s
        self._settle_s = settle_s
        self._clock = clock

    def active(self) -> Iterator[Wish]:
        """Iterate over the repairs of everything but `done/`."""
        workers = {*self._watch.names(), *self._names(self._layout.running)}
        self._watch.forget_others(workers)
        for worker in workers:
            self._watch.look(worker)
        found = [f for state in ACTIVE_STATES for f in self._census.files(state)]
        checked, marked = self._checked_ids(found), set(self._names(self._layout.cancel))
        for f in found:
            labelled = f.task_id in checked and self._results.exists(f.task_id or "")
            if (wish := self._judge(f, labelled, f.task_id in marked)) is not None:
                yield wish
        yield from self._copies(found)
        yield from self._strays()
        yield from self._markers()
        yield from self._leftovers()
        yield from self._graves(workers, {f.worker for f in found})

    def done(self, shard: str) -> Iterator[Wish]:
        """Iterate over the repairs of one sub-folder of `done/`."""
        labelled = set(self._results.ids_of_shard(shard))
        for found in self._census.done_shard(shard):
            path, task_id = found.path, found.task_id
            if task_id is None:
                yield self._identify(found)
            elif task_id not in labelled and not self._results.exists(task_id):
                yield self._wish(found, "-> pending, has no result", self._moves.to_pending, path, task_id)
            elif path != self._layout.done_path(task_id):
                yield self._wish(found, "-> its folder in done", self._moves.to_done, path, task_id)

    def _checked_ids(self, found: list[Found]) -> set[str | None]:
        """Return the ids whose results are looked for in this pass; among very many pending tasks, a part in turn.

        A claim looks for the result anyway, so nothing is labelled twice meanwhile.
        """
        parts = 1 + sum(f.state == "pending" for f in found) // _MAX_RESULT_CHECKS
        turn = int(self._clock.monotonic() / (3 * self._lease_s)) % parts
        return {f.task_id for f in found if f.task_id and (f.state != "pending" or int(f.task_id, 16) % parts == turn)}

    def _is_owned(self, found: Found) -> bool:
        """True if a living worker says that it holds this task."""
        worker = found.worker
        return worker is not None and found.task_id in self._watch.holding(worker) and not self._watch.is_dead(worker)

    def _wish(
        self, found: Found, what: str, act: Callable[..., object], *args: object, patience_s: float | None = None
    ) -> Wish:
        # File names come from anywhere: no control characters in logs.
        where = ascii("/".join((found.state, *found.parts[:-1])))[1:-1]
        unit = f"done/{found.parts[0]}" if found.state == "done" else found.state
        text = f"{found.task_id or ascii(found.path.name)}: {where} {what}"
        patience_s = self._lease_s if patience_s is None else patience_s
        return Wish((unit, found.path, what), patience_s, text, lambda: act(*args), revives=what.startswith(_REVIVED))

    def _judge(self, found: Found, labelled: bool, marked: bool) -> Wish | None:
        """Return what should happen to one file that is not in `done/`."""
        task_id, moves = found.task_id, self._moves
        if found.state == "corrupt":
            return None
        if task_id is None:
            return self._identify(found)
        if labelled and not self._is_owned(found):
            return self._wish(found, "-> done, has a result", moves.to_done, found.path, task_id)
        if found.state == "running":
            return self._judge_running(found, task_id)
        if marked and found.state in ("pending", "delayed", "held"):
            return self._wish(found, "-> cancelled, as marked", moves.to_cancelled, found.path, task_id, patience_s=0.0)
        return self._judge_place(found, task_id)

    def _judge_running(self, found: Found, task_id: str) -> Wish | None:
        path, worker = found.path, found.worker
        if self._is_owned(found):
            return None
        if worker is None or not self._watch.is_dead(worker):
            # A living worker names a new claim in its next beat only, so it has one lease of its own for that.
            patience_s = self._watch.patience(worker) if worker else self._lease_s
            act = self._moves.to_pending
            return self._wish(found, "-> pending, nobody holds it", act, path, task_id, patience_s=patience_s)

        def reap() -> object:
            # It may have woken up since it was looked at.
            return self._watch.is_dead(worker) and self._moves.lost(path, task_id, worker, "its lease ran out")

        # No more patience: the watch has had it.
        return self._wish(found, "-> pending, its worker is gone", reap, patience_s=0.0)

    def _judge_place(self, found: Found, task_id: str) -> Wish | None:
        """File a task that lies in the right state's folder, but at a wrong depth or under a wrong name."""
        if found.state == "pending" and len(found.parts) == 2:
            return None
        path, layout = found.path, self._layout
        if found.state == "pending":
            # `mv failed/* pending/` is how people retry. It needs no patience: a claim looks for the result anyway.
            patience_s = 0.0 if self._moves.may_file(path, task_id) else self._lease_s
            return self._wish(found, "-> its bucket", self._moves.to_pending, path, task_id, patience_s=patience_s)
        target = {
            "failed": layout.failed_path(task_id),
            "cancelled": layout.cancelled_path(task_id),
            "delayed": layout.delayed / path.name,
            "held": layout.held / path.name,
        }[found.state]
        if path == target:
            return None
        return self._wish(found, f"-> {found.state}/{target.name}", self._moves.place, path, target)

    def _identify(self, found: Found) -> Wish:
        """Find out which task a file is that does not have its id in its name."""

        def act() -> object:
            try:
                task = Task.from_dict(read_document(found.path))
            except (FileNotFoundError, NewerSchema):
                return False
            except DataError as error:
                return self._moves.to_corrupt(found.path, None, str(error))
            return self._moves.place(found.path, found.path.with_name(f"{task.id}.json"))

        what = "-> named by its content, or corrupt"
        look = look_of(found.path)
        text = f"{found.path.name!a}: {found.state} {what}"
        return Wish((found.state, found.path, look), self._settle_s, text, act)

    def _copies(self, found: list[Found]) -> Iterator[Wish]:
        """Find ids that have several files without a result (somebody used `cp`)."""
        files: dict[str, list[Found]] = defaultdict(list)
        for f in found:
            if f.task_id and f.state in _KEEP_ORDER:
                files[f.task_id].append(f)
        for task_id, group in files.items():
            if len(group) < 2 or self._results.exists(task_id):
                continue
            group.sort(key=lambda f: (not self._is_owned(f), _KEEP_ORDER.index(f.state), f.parts))
            keeper = group[0].path
            for f in group[1:]:
                act = self._moves.remove_copy
                wish = self._wish(f, f"removed, a copy of {keeper.relative_to(self._layout.root)}", act, f.path, keeper)
                yield wish

    def _strays(self) -> Iterator[Wish]:
        """Find task files in folders that hold no tasks."""
        layout = self._layout
        for folder in (layout.root, layout.tmp, layout.cancel, layout.leases, layout.done):
            for name in self._names(folder):
                path = folder / name
                if id_in_name(name) is None or path.is_dir():
                    continue

                def act(path: Path = path) -> object:
                    try:
                        task = Task.from_dict(read_document(path))
                    except (DataError, OSError):
                        return False
                    return self._moves.to_pending(path, task.id)

                text = f"{name}: {folder.name} -> pending"
                yield Wish((folder, name, look_of(path)), self._lease_s, text, act, revives=True)

    def _markers(self) -> Iterator[Wish]:
        """Find cancel markers whose task can no longer be cancelled, or never was."""
        for name in self._names(self._layout.cancel):
            if not TASK_ID_PATTERN.fullmatch(name):
                continue
            state = self._census.state(name)
            if state not in ("pending", "delayed", "held", "running"):
                marker = self._layout.cancel_marker(name)
                yield Wish(("cancel", name, state), self._lease_s, f"{name}: cancel marker removed", _remover(marker))

    def _leftovers(self) -> Iterator[Wish]:
        """Find temporary files of writers that died, and reasons whose file has gone."""
        layout = self._layout
        for folder in (layout.tmp, layout.leases, layout.cancel, layout.failed, layout.corrupt, self._results.tmp):
            for name in self._names(folder):
                if name.endswith(".tmp"):
                    path = folder / name
                    yield Wish((folder, name, look_of(path)), self._lease_s, f"{name}: removed", _remover(path))
        for folder in (layout.failed, layout.corrupt):
            names = set(self._names(folder))
            for name in names:
                if name.endswith(".reason") and f"{name.removesuffix('.reason')}.json" not in names:
                    yield Wish((folder, name), self._lease_s, f"{name}: removed", _remover(folder / name))

    def _graves(self, workers: set[str], occupied: set[str | None]) -> Iterator[Wish]:
        """Find leases and empty folders of workers that are gone."""
        for worker in workers - occupied:
            if self._watch.is_dead(worker):
                yield Wish(("workers", worker), 0.0, f"{worker}: forgotten", partial(self.bury, worker))

    def bury(self, worker: str) -> bool:
        """Remove the lease and the empty folder of a worker that is gone; True if there was something to remove."""
        # A task file that was moved to leases/ by hand looks like a lease by its name.
        is_lease = "counter" in (read_lease(self._layout, worker) or {})
        removed = is_lease and _remover(self._layout.lease_path(worker))()
        try:
            self._layout.running_folder(worker).rmdir()
        except OSError:
            return removed
        return True

    @staticmethod
    def _names(folder: Path) -> list[str]:
        try:
            return os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []


def _remover(path: Path) -> Callable[[], bool]:
    def remove() -> bool:
        try:
            path.unlink()
        except OSError:
            return False
        return True

    return remove
