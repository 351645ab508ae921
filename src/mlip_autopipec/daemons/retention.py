"""What the run keeps: removes versions that nobody needs any more, and the attempts at labels that are there."""

from __future__ import annotations

import logging
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.retirement import dispensable, retire
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import RetentionSettings

logger = logging.getLogger(__name__)

_VERSIONS_S: Final = 10.0
_ATTEMPTS_S: Final = 600.0
_AT_ONCE: Final = 50  # folders of attempts, so that a step stays short on a slow disk
_DAY_S: Final = 86_400.0
_TASK: Final = re.compile(r"[0-9a-f]{20}")


class Retention:
    """Looks now and then; of the trainer, which alone removes versions. Walkers keep their own folders in order.

    Parameters
    ----------
    wall
        Seconds since the epoch, to compare with the times of files.
    """

    def __init__(
        self,
        run: RunDirectory,
        settings: RetentionSettings,
        registry: Registry,
        results: Results,
        events: EventLog,
        *,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._run = run
        self._settings = settings
        self._registry = registry
        self._results = results
        self._events = events
        self._wall = wall
        self._versions_at = self._attempts_at = float("-inf")
        self._folders: Iterator[Path] | None = None
        self._told = ""

    def look(self, now: float) -> None:
        """Remove what may go; call it while no fit runs."""
        if self._settings.versions is not None and now >= self._versions_at:
            self._versions_at = now + _VERSIONS_S
            self._retire(self._settings.versions)
        if self._settings.attempts_days is not None and (self._folders is not None or now >= self._attempts_at):
            self._attempts_at = now + _ATTEMPTS_S
            self._forget(self._settings.attempts_days)

    def _retire(self, keep: int) -> None:
        try:
            for version in dispensable(self._run, self._registry, keep):
                retire(self._registry, version)
                self._events.emit("version_retired", version=version)
                logger.info("%s: removed (retention.versions); what is told of it is in retired/", version)
        except (AutopipeError, OSError) as error:  # what is damaged may name a version that is needed
            if str(error) != self._told:
                logger.warning("no version is removed: %s", error)
            self._told = str(error)

    def _forget(self, days: float) -> None:
        """Look at some of the folders, at the rest of them with the next calls."""
        if self._folders is None:
            found = self._run.attempts.iterdir() if self._run.attempts.is_dir() else iter(())
            self._folders = iter([path for path in found if _TASK.fullmatch(path.name)])
        for _ in range(_AT_ONCE):
            folder = next(self._folders, None)
            if folder is None:
                self._folders = None
                return
            # A task without a label may need them: a refused label is judged again, a stopped SCF goes on.
            if self._results.exists(folder.name) and self._wall() - _touched(folder) > days * _DAY_S:
                shutil.rmtree(folder, ignore_errors=True)
                logger.info("%s: removed (retention.attempts_days)", folder)


def _touched(folder: Path) -> float:
    """Return when the newest attempt was begun or ended, s since the epoch."""
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except FileNotFoundError:  # its worker is just tidying up
        return float("inf")
