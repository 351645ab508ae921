"""What a person asks for by command: requeue, retry, cancel, hold, let go, prioritise."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

from mlip_autopipec.core.errors import NotFoundError, QueueError
from mlip_autopipec.core.files import write_json
from mlip_autopipec.store.census import Census
from mlip_autopipec.store.task import Task
from mlip_autopipec.store.transitions import Transitions

_WAITING: Final = ("pending", "delayed", "held")
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Operator:
    """Changes tasks on behalf of a person; each method returns one line that says what it did, or would do."""

    def __init__(self, moves: Transitions, census: Census) -> None:
        self._moves = moves
        self._census = census

    def requeue(self, task_id: str, *, dry_run: bool = False) -> str:
        """Make a task pending with fresh attempts.

        Raises
        ------
        NotFoundError
            Nobody knows the id.
        QueueError
            It is running.
        DataError
            It is in `corrupt/` and still not readable.
        """
        labelled = self._moves.results.exists(task_id)
        state, path = self._find(task_id, labelled)
        if state == "running":
            raise QueueError(f"task {task_id} is running", "cancel it first, or wait for it")
        if state == "corrupt" and path is not None:
            Task.read(path)
        if state == "pending" and not labelled:
            return f"{task_id}: is pending already"
        text = f"{task_id}: {'done' if labelled else state} -> pending"
        if labelled:
            text += ", the old result goes to superseded/"
        if dry_run:
            return text
        self._moves.history.add(task_id, "requeued", from_state=state)
        with contextlib.suppress(FileNotFoundError):
            self._moves.layout.cancel_marker(task_id).unlink()
        # A result whose task file is lost still holds the task.
        task = Task.from_dict(self._moves.results.read(task_id)["task"]) if path is None else None
        # The result first: a crash in between leaves a done task without result, which the sweep makes pending.
        if labelled:
            self._moves.results.supersede(task_id)
        if path is not None:
            self._moves.to_pending(path, task_id)
        elif task is not None:
            self._moves.publish(task)
        return text

    def cancel(self, task_id: str, *, dry_run: bool = False) -> str:
        """Cancel a task that has no result yet.

        Raises
        ------
        NotFoundError
            Nobody knows the id.
        QueueError
            It is done, failed, cancelled or corrupt already.
        """
        labelled = self._moves.results.exists(task_id)
        state, path = self._find(task_id, labelled)
        if labelled or path is None or state not in ("pending", "delayed", "held", "running"):
            state = "done" if labelled else state
            raise QueueError(f"task {task_id} is {state} already", "only waiting and running tasks can be cancelled")
        text = f"{task_id}: {state} -> cancelled"
        if state == "running":
            text += " (its worker sees it at the next beat)"
        if not dry_run:
            marker = self._moves.layout.cancel_marker(task_id)
            marker.parent.mkdir(parents=True, exist_ok=True)
            write_json(marker, {"by": f"uid {os.getuid()}"})
            # The marker stays if a worker was faster: it will look for it.
            if state != "running":
                self._moves.to_cancelled(path, task_id)
        return text

    def retry(self, task_id: str, *, dry_run: bool = False) -> str:
        """Make a failed task pending with fresh attempts.

        Raises
        ------
        NotFoundError
            Nobody knows the id.
        QueueError
            It has not failed.
        """
        self._waiting(task_id, ("failed",), "failed tasks can be retried")
        return self.requeue(task_id, dry_run=dry_run)

    def hold(self, task_id: str, *, dry_run: bool = False) -> str:
        """Park a waiting task; the run does not wait for it.

        Raises
        ------
        NotFoundError
            Nobody knows the id.
        QueueError
            It is neither pending nor delayed.
        """
        state, path = self._waiting(task_id, ("pending", "delayed"), "waiting tasks can be held")
        if not dry_run:
            self._moved(task_id, self._moves.to_held(path, task_id), "held")
        return f"{task_id}: {state} -> held"

    def let_go(self, task_id: str, *, dry_run: bool = False) -> str:
        """Make a held task pending.

        Raises
        ------
        NotFoundError
            Nobody knows the id.
        QueueError
            It is not held.
        """
        _, path = self._waiting(task_id, ("held",), "held tasks can be let go")
        if not dry_run:
            self._moved(task_id, self._moves.to_pending(path, task_id), "let_go")
        return f"{task_id}: held -> pending"

    def prioritise(self, task_id: str, bucket: str | None, *, dry_run: bool = False) -> str:
        """Move a waiting task to a bucket of `pending/`; None: to that of its gamma.

        Raises
        ------
        NotFoundError
            Nobody knows the id.
        QueueError
            It does not wait, or the name of the bucket is none.
        """
        if bucket is not None and not _BUCKET.fullmatch(bucket):
            raise QueueError(f"bucket {bucket!r}: not a folder name", "use letters, digits and _ . -")
        state, path = self._waiting(task_id, _WAITING, "waiting tasks have an order")
        if not dry_run:
            self._moved(task_id, self._moves.to_pending(path, task_id, bucket), "prioritised")
        return f"{task_id}: {state} -> pending/{bucket or '(by gamma)'}"

    def _moved(self, task_id: str, moved: bool, event: str) -> None:
        if not moved:
            raise QueueError(
                f"task {task_id} has just been taken", "look again with `autopipe queue show`", transient=True
            )
        self._moves.history.add(task_id, event)

    def _waiting(self, task_id: str, states: tuple[str, ...], only: str) -> tuple[str, Path]:
        """Return (state, path) of a task without a result that is in one of `states`."""
        labelled = self._moves.results.exists(task_id)
        state, path = self._find(task_id, labelled)
        if labelled or path is None or state not in states:
            raise QueueError(f"task {task_id} is {'done' if labelled else state}", f"only {only}")
        return state, path

    def _find(self, task_id: str, labelled: bool) -> tuple[str, Path | None]:
        found = self._census.find(task_id)
        if found is not None:
            return found
        if labelled:
            return "done", None
        raise NotFoundError(f"no task {task_id}", "`autopipe queue ls` shows all")
