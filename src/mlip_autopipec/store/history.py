"""What happened to each task, in `attempts/history/<id[:2]>/<id>.jsonl`: hosts, reasons, times; and how often."""

from __future__ import annotations

import json
import logging
import os
import socket
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.clock import Clock, iso_time
from mlip_autopipec.core.files import append_line

log = logging.getLogger(__name__)

# After one of these a task starts afresh: its earlier attempts do not count any more. `failed` is among them because
# a failed task runs again only if a person wanted it, by `requeue` or by hand.
_RENEWALS: Final = frozenset({"failed", "requeued", "done", "cancelled"})


class History:
    """Appends to and reads the histories of tasks.

    Parameters
    ----------
    attempts
        The run's `attempts/` folder.
    """

    def __init__(self, attempts: Path, clock: Clock, worker: str) -> None:
        self._folder = f"{attempts}/history"
        self._clock = clock
        self._worker = worker
        self._host = socket.gethostname()

    def path(self, task_id: str) -> Path:
        # Not in a folder of its own: making one takes longer than all the rest of a claim.
        return Path(self._text_path(task_id))

    def _text_path(self, task_id: str) -> str:
        return f"{self._folder}/{task_id[:2]}/{task_id}.jsonl"

    def add(self, task_id: str, event: str, *, at: float | None = None, **fields: Any) -> None:
        """Append one event; `at` says when it happened if that was not now, s since the epoch.

        Events are `claimed retry failed given_back lost requeued done cancelled corrupt held let_go prioritised`.

        A history is for people and for counting attempts; a full disk must not stop a label, so it is only logged.
        """
        record = {
            "time": iso_time(self._clock.wall() if at is None else at),
            "event": event,
            "worker": self._worker,
            "host": self._host,
            "pid": os.getpid(),
            **fields,
        }
        path = self.path(task_id)
        try:
            try:
                append_line(path, json.dumps(record))
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                append_line(path, json.dumps(record))
        except OSError as error:
            log.warning("history of %s not written: %s", task_id, error)

    def read(self, task_id: str) -> list[dict[str, Any]]:
        """Return the events of one task, oldest first; damaged lines are left out."""
        try:
            with open(self._text_path(task_id), encoding="utf-8", errors="replace") as handle:
                text = handle.read()
        except (FileNotFoundError, NotADirectoryError):
            return []
        events = []
        for line in text.splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                events.append(event)
        return events

    def count(self, task_id: str, event: str) -> int:
        """Return how often `event` happened since the task last started afresh."""
        number = 0
        for record in self.read(task_id):
            if record.get("event") in _RENEWALS:
                number = 0
            elif record.get("event") == event:
                number += 1
        return number
