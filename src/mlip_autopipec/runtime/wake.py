"""Ends the sleep of an idle loop when a file comes into a folder: an accelerator of polling, never its replacement.

inotify sees nothing of what other hosts do, so it is used on local filesystems only; where it cannot be used (too many
watches, no `watchdog`, any other system), nothing is different but the time until the next look.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

from mlip_autopipec.core.filesystem import filesystem_of, is_local

logger = logging.getLogger(__name__)


class Waker:
    """A file descriptor that becomes readable when a file appears below `folder`.

    Parameters
    ----------
    folder
        Need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._observer: Any = None
        self._hopeless = False

    @property
    def watching(self) -> bool:
        return self._observer is not None

    def fileno(self) -> int:
        return self._read

    def arm(self) -> bool:
        """Begin to watch, if that has not begun, the folder exists and it is possible at all; true if it began now."""
        if self.watching or self._hopeless or not self.folder.is_dir():
            return False
        if not is_local(kind := filesystem_of(self.folder)):
            self._hopeless = True
            logger.debug("%s: only polled, its filesystem is %s", self.folder, kind or "unknown")
            return False
        try:
            self._observer = _observer(self.folder, self._wake)
        except (ImportError, OSError, RuntimeError) as error:
            self._hopeless = True
            logger.info("%s: only polled: %s", self.folder, error)
        return self.watching

    def clear(self) -> None:
        """Forget the events so far."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self._read, 512):
                pass

    def close(self) -> None:
        """Watch no longer (call once)."""
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        os.close(self._read)
        os.close(self._write)

    def _wake(self, _event: object) -> None:
        # A full pipe wakes, too.
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")


def _observer(folder: Path, wake: Any) -> Any:
    from watchdog.events import FileCreatedEvent, FileMovedEvent, FileSystemEventHandler
    from watchdog.observers import Observer

    handler = FileSystemEventHandler()
    handler.on_any_event = wake  # type: ignore[method-assign]
    observer = Observer()
    observer.schedule(handler, str(folder), recursive=True, event_filter=[FileCreatedEvent, FileMovedEvent])
    observer.daemon = True
    observer.start()
    return observer
