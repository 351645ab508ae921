"""Keeps in order what only the trainer may write: the dataset, and which potential version is current."""

from __future__ import annotations

import logging

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.intake import Intake
from mlip_autopipec.store.currentrepair import repair_current
from mlip_autopipec.store.registry import Registry

logger = logging.getLogger(__name__)


class Upkeep:
    """Repairs what disks and hands did; each repair is one log line and one event.

    Attributes
    ----------
    trouble : what only a person can mend, with what to do; empty if nothing
    """

    def __init__(self, intake: Intake, registry: Registry, events: EventLog) -> None:
        self.trouble = ""
        self._intake = intake
        self._registry = registry
        self._events = events
        self._seen: object = None

    def look(self) -> bool:
        """Look once; True if versions may have gone."""
        if mishap := self._intake.rebuilt():
            logger.warning("%s: rebuilt with %d labels", mishap, len(self._intake.labels))
            self._events.emit("dataset_rebuilt", reason=mishap, labels=len(self._intake.labels))
        return self._look_at_current()

    def _look_at_current(self) -> bool:
        # Hashing is for changes; and for trouble, since restoring a file changes nothing here.
        thorough = bool(self.trouble) or self._registry.current_stamp() != self._seen
        try:
            done = repair_current(self._registry, thorough=thorough)
        except ModelError as error:
            if str(error) != self.trouble:
                logger.error("%s", error)
            self.trouble, done = str(error), ""
        else:
            self.trouble = ""
        self._seen = self._registry.current_stamp()
        if not done:
            return False
        logger.warning("%s", done)
        current = self._registry.current()
        self._events.emit("current_repaired", version=current.version if current else None, reason=done)
        return True
