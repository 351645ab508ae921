"""How far the exploration of a run is: asked by the trainer, the supervisor and the explorer-worker."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.daemons.queues import explore_queue
from mlip_autopipec.store.exploration import SelectionRecord
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config

logger = logging.getLogger(__name__)


class Exploration:
    """Reads the queue of trajectories and the selection.

    Parameters
    ----------
    worker
        Name of the process that asks.
    """

    def __init__(self, run: RunDirectory, config: Config, worker: str) -> None:
        self.wanted = config.explore.explores and config.start.dataset is not None
        self._run = run
        self._queue = explore_queue(run, config.queue, worker=worker)
        self._over = False

    def is_over(self) -> bool:
        """True once every pick has its task, and for a run that does not explore, or has a potential without that."""
        if not self._over and self.wanted:
            try:
                record = SelectionRecord.read(self._run)
            except DataError as error:
                logger.warning("%s", error)
                return False
            self._over = self._came_too_late() if record is None else record.published
        return self._over or not self.wanted

    def why_over(self) -> str:
        """Return why there is nothing to explore, once `is_over`."""
        if not self.wanted:
            return "explore.surrogate.kind: none, or no start.dataset"
        if self._came_too_late():
            return "the run has a potential already: exploration comes before the first"
        return "every pick has its label task"

    def _came_too_late(self) -> bool:
        """True if there is a potential, and no trajectory was ever asked for."""
        return bool(Registry(self._run.potentials).versions()) and not any(self._queue.counts().values())

    def trajectories(self) -> int:
        """Return how many trajectories are under way."""
        return self._queue.unfinished() if self.wanted else 0

    def unfinished(self) -> int:
        """Return a number above 0 as long as label tasks may come from it."""
        return 0 if self.is_over() else 1 + self.trajectories()


def exploration_facts(run: RunDirectory) -> dict[str, Any]:
    """Return what there is to say of the selection; empty if there is none."""
    record = SelectionRecord.read(run)
    return {} if record is None else {"picks": len(record.picks), **record.pool, "coverage": record.coverage}
