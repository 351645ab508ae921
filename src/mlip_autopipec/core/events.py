"""The science log: what happened, in which process, to which tasks. Append-only JSON lines, one file per process."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.clock import Clock, SystemClock, iso_time
from mlip_autopipec.core.files import append_line

logger = logging.getLogger(__name__)

# In causal order for one task id: an event is never merged before the ones on its left with the same id.
TASK_STORY: Final = (
    "gamma_exceeded",
    "task_published",
    "task_claimed",
    "label_done",
    "train_started",
    "version_published",
    "swapped",
)
EVENTS: Final = frozenset(TASK_STORY) | {
    "exploration_published",
    "explored",
    "exploration_failed",
    "picked",
    "md_started",
    "label_failed",
    "md_completed",
    "walker_stuck",
    "walker_revived",
    "reseeded",
    "heal_failed",
    "carve_refused",
    "rewound",
    "dataset_rebuilt",
    "current_repaired",
    "version_retired",
}


class EventLog:
    """Appends the events of one process to `folder/<process>.jsonl`.

    Parameters
    ----------
    folder
        The run's `events/` folder.
    process
        Name of the process, e.g. `dft-worker-0` or `w00`.
    """

    def __init__(self, folder: Path, process: str, clock: Clock | None = None) -> None:
        self.path = folder / f"{process}.jsonl"
        self.process = process
        self._clock = clock or SystemClock()

    def emit(self, event: str, **fields: Any) -> dict[str, Any]:
        """Append one event.

        `fields` are JSON-ready; the usual ones are `task_ids` (list), `walker`, `step`, `gamma`, `version`.
        """
        if event not in EVENTS:
            raise ValueError(f"unknown event {event!r}")
        record = {"time": iso_time(self._clock.wall()), "event": event, "process": self.process, **fields}
        append_line(self.path, json.dumps(record, allow_nan=False))
        return record


def read_events(path: Path) -> list[dict[str, Any]]:
    """Return the events of one file; a half-written last line of a running writer is left out, as is what is none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    whole, _, _ = data.rpartition(b"\n")
    parsed = (parse_event(line, f"{path}:{number}") for number, line in enumerate(whole.splitlines(), start=1) if line)
    return [record for record in parsed if record is not None]


def parse_event(line: bytes, where: str) -> dict[str, Any] | None:
    """Return the event that a line holds; None, and a warning that names `where`, if it holds none."""
    try:
        record = json.loads(line)
        if isinstance(record, dict) and isinstance(record["event"], str):
            return record
    except (ValueError, KeyError):
        pass
    # A writer that was cut off in mid-line; what it says is recovered from the files that prove it.
    logger.warning("%s: not an event, left out", where)
    return None
