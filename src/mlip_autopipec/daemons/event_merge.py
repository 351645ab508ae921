"""Merges `events/<process>.jsonl` into `events.jsonl`, causes before effects.

The merged file is its own journal: every line names its `source` (file and line number), so what was merged before a
kill is read from the output itself, and there are no two files to keep in step. A line is held back until its causes
(`causes`, per task id) and the earlier lines of its own file are written; after `patience_s` at the
head of its file it is written anyway, with `late: true`. A recovered event that turns out to be known is left out.
"""

from __future__ import annotations

import json
import logging
import os
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlip_autopipec.core.clock import Clock, SystemClock
from mlip_autopipec.core.events import parse_event

logger = logging.getLogger(__name__)

Fact = tuple[str, str]  # an event, and the task id or version that it happened to

_CAUSE_OF = {
    "task_claimed": "task_published",
    "label_done": "task_claimed",
    "label_failed": "task_claimed",
    "train_started": "label_done",
    "version_published": "train_started",
}


def facts(record: dict[str, Any]) -> list[Fact]:
    """Return what a record says happened."""
    found = [(record["event"], task_id) for task_id in record.get("task_ids") or ()]
    if record["event"] == "version_published" and record.get("version"):
        found.append(("version_published", record["version"]))
    return found


def causes(record: dict[str, Any]) -> list[Fact]:
    """Return what must have happened before a record."""
    event, task_ids = record["event"], record.get("task_ids") or ()
    if event == "swapped":
        # Versions are enough: a walker's list of ids is relative to the version that it had.
        return [("version_published", record["version"])] if record.get("version") else []
    if event == "task_published":
        # Tasks of the bootstrap have no walker, and so no gamma.
        halted = record.get("walker") and not record.get("collected")
        return [("gamma_exceeded", task_id) for task_id in task_ids] if halted else []
    cause = _CAUSE_OF.get(event)
    return [(cause, task_id) for task_id in task_ids] if cause else []


def append_bytes(path: Path, data: bytes) -> None:
    """Append in one write and sync."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(eq=False)
class _Waiting:
    record: dict[str, Any]
    source: str
    missing: list[Fact]
    since: float | None = None  # when it came to the head of its file

    @property
    def order(self) -> tuple[str, str]:
        return str(self.record.get("time", "")), self.source


@dataclass
class _Source:
    path: Path
    offset: int = 0
    line: int = 0
    merged_to: int = 0  # last line in the output, apart from recovered ones
    queue: deque[_Waiting] = field(default_factory=deque)


class EventMerger:
    """The only writer of `events.jsonl`.

    Parameters
    ----------
    folder
        The run's `events/`.
    merged
        The run's `events.jsonl`.
    patience_s
        How long an event waits for its causes, s.
    has_result
        True if a task id has a result. A training set also holds structures that came with a label: nobody ever
        labelled them, so nothing is to be waited for.
    append
        Appends bytes to a file (tests put a failing one here).
    """

    def __init__(
        self,
        folder: Path,
        merged: Path,
        *,
        patience_s: float,
        clock: Clock | None = None,
        has_result: Callable[[str], bool] = lambda task_id: True,
        append: Callable[[Path, bytes], None] = append_bytes,
    ) -> None:
        self.folder = folder
        self.merged = merged
        self.late = 0
        self._patience_s = patience_s
        self._clock = clock or SystemClock()
        self._has_result = has_result
        self._append = append
        self._sources: dict[str, _Source] = {}
        self._loose: list[_Waiting] = []  # recovered events are bound to no order of lines
        self._loose_merged: set[str] = set()
        self._known: set[Fact] = set()
        self._waiting: Counter[Fact] = Counter()
        self._recovered: set[Fact] = set()
        self._unwritten = b""
        self._torn = False  # the last append failed, perhaps in the middle
        self._load()
        self._written_to = self._size()

    def merge(self, *, final: bool = False) -> list[dict[str, Any]]:
        """Append what is ready and return it; `final` waits for nothing any more."""
        self._read_sources()
        ready: list[dict[str, Any]] = []
        while (found := self._next(final)) is not None:
            waiting, late = found
            if self._is_echo(waiting.record):
                continue
            extra = {"late": True} if late else {}
            record = {**waiting.record, "source": waiting.source, **extra}
            self._note(record)
            ready.append(record)
        self._unwritten += "".join(json.dumps(record) + "\n" for record in ready).encode()
        self._write()
        return ready

    def _write(self) -> None:
        """Append what is decided; while the disk is full, keep it: a kill costs nothing, it would be merged again."""
        if not self._unwritten:
            return
        try:
            if self._torn:
                # Half a batch got to the disk: what is whole there stays, the rest is written again.
                self._cut_back()
            self._append(self.merged, self._unwritten)
        except OSError as error:
            if not self._torn:
                logger.warning("%s: not written, will be tried again: %s", self.merged, error)
            self._torn = True
            return
        self._written_to = self._size()
        self._unwritten, self._torn = b"", False

    def _cut_back(self) -> None:
        if self._size() > self._written_to:
            os.truncate(self.merged, self._written_to)

    def _size(self) -> int:
        return self.merged.stat().st_size if self.merged.exists() else 0

    def knows(self, fact: Fact) -> bool:
        """True if the fact is merged or waits to be."""
        return fact in self._known or self._waiting[fact] > 0

    @property
    def waiting(self) -> int:
        """Number of events that are held back."""
        return len(self._loose) + sum(len(source.queue) for source in self._sources.values())

    # --- reading ----------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """Find out from the output what was merged; a line cut off by a kill is removed and merged again."""
        if not self.merged.exists():
            return
        data = self.merged.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(self.merged, whole)
        for number, line in enumerate(data[:whole].splitlines(), start=1):
            record = parse_event(line, f"{self.merged}:{number}")
            if record is None or ":" not in str(record.get("source")):
                continue
            process, _, text = record["source"].rpartition(":")
            if record.get("recovered"):
                self._loose_merged.add(record["source"])
            else:
                source = self._source(process)
                source.merged_to = max(source.merged_to, int(text))
            self._note(record)

    def _source(self, process: str) -> _Source:
        return self._sources.setdefault(process, _Source(self.folder / f"{process}.jsonl"))

    def _read_sources(self) -> None:
        for path in sorted(self.folder.glob("*.jsonl")):
            source = self._source(path.stem)
            for line in _new_lines(source):
                source.line += 1
                name = f"{path.stem}:{source.line}"
                record = parse_event(line, f"{path}:{source.line}")
                if record is not None:
                    self._take(source, record, name)

    def _take(self, source: _Source, record: dict[str, Any], name: str) -> None:
        """Put a new line where it waits, unless it was merged already."""
        missing = [(event, key) for event, key in causes(record) if event != "label_done" or self._has_result(key)]
        waiting = _Waiting(record, name, missing)
        if not record.get("recovered"):
            if source.line <= source.merged_to:
                return
            source.queue.append(waiting)
        else:
            if name in self._loose_merged or all(self.knows(fact) for fact in facts(record)):
                return
            self._loose.append(waiting)
        self._waiting.update(facts(record))

    # --- ordering ---------------------------------------------------------------------------------------------

    def _next(self, final: bool) -> tuple[_Waiting, bool] | None:
        """Take out the next event to write; with True if it is written without its causes."""
        heads = [source.queue[0] for source in self._sources.values() if source.queue] + self._loose
        now = self._clock.monotonic()
        for head in heads:
            head.since = now if head.since is None else head.since
        ready = [head for head in heads if self._is_ready(head)]
        if ready:
            return self._pop(min(ready, key=lambda w: w.order)), False
        tired = [head for head in heads if final or now - (head.since or 0.0) >= self._patience_s]
        # One at a time: it may be the cause that all the others wait for.
        return (self._pop(min(tired, key=lambda w: w.order)), True) if tired else None

    def _is_ready(self, waiting: _Waiting) -> bool:
        while waiting.missing and waiting.missing[-1] in self._known:
            waiting.missing.pop()
        return not waiting.missing

    def _pop(self, waiting: _Waiting) -> _Waiting:
        if waiting.record.get("recovered"):
            self._loose.remove(waiting)
        else:
            self._sources[waiting.source.rpartition(":")[0]].queue.popleft()
        self._waiting.subtract(facts(waiting.record))
        return waiting

    def _is_echo(self, record: dict[str, Any]) -> bool:
        """True if a recovered event has told this already, or the original came before the recovered one."""
        told = facts(record)
        if not told:
            return False
        if record.get("recovered"):
            return all(fact in self._known for fact in told)
        if all(fact in self._recovered for fact in told):
            self._recovered.difference_update(told)
            return True
        return False

    def _note(self, record: dict[str, Any]) -> None:
        self._known.update(facts(record))
        self.late += bool(record.get("late"))
        if record.get("recovered"):
            self._recovered.update(facts(record))
        elif record["event"] == "task_claimed":
            # A label after a new claim is a new label.
            self._recovered.difference_update(("label_done", task_id) for task_id in record.get("task_ids") or ())


def _new_lines(source: _Source) -> list[bytes]:
    """Return the whole lines that were appended since the last look."""
    size = source.path.stat().st_size
    if size <= source.offset:
        return []
    with source.path.open("rb") as handle:
        handle.seek(source.offset)
        data = handle.read(size - source.offset)
    whole = data.rfind(b"\n") + 1
    source.offset += whole
    return data[:whole].splitlines()
