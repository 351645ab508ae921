"""The last fit of a run, by pacemaker, once walkers have ended and no label can come any more (`training.final`)."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlip_autopipec.core.errors import AutopipeError, DataError
from mlip_autopipec.daemons.progress import RunnerEnd
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import read_all

if TYPE_CHECKING:
    from mlip_autopipec.config import Config

logger = logging.getLogger(__name__)


class FinalFit:
    """Knows whether the last fit is still to come, and when.

    Parameters
    ----------
    run, config, registry
        Of the run.
    """

    def __init__(self, run: RunDirectory, config: Config, registry: Registry) -> None:
        self._run = run
        self._registry = registry
        self._wanted = config.training.final == "pacemaker"
        self._walkers = frozenset(plan.name for plan in walker_plans(config.otf))
        self._runner_end = RunnerEnd(run)
        self._refused = ""
        self._made: str | None = None  # the version that is known to be one of pacemaker

    def outstanding(self, newest: str | None) -> bool:
        """True while the run is not complete without it: as long as the newest version is not of pacemaker."""
        if not self._wanted or self._refused or newest is None or newest == self._made:
            return False
        try:
            made = self._registry.manifest(newest).get("trainer") == "pacemaker"
        except AutopipeError:  # damaged: the trainer mends it
            return True
        self._made = newest if made else None
        return not made

    def is_due(self, newest: str | None, unfinished: Callable[[], int]) -> bool:
        """True if it should begin: every walker has ended, and no task is under way.

        Parameters
        ----------
        newest
            Version.
        unfinished
            Counts tasks; only asked if all else is so.
        """
        if not self.outstanding(newest) or not self._runner_end.is_there():
            return False
        try:
            ended = {walker.name for walker in read_all(self._run.walkers) if walker.ended}
        except DataError as error:
            logger.warning("%s", error)
            return False
        return self._walkers <= ended and not unfinished()

    def failed(self, reason: str) -> None:
        """Give it up until the next start: the versions that are there remain."""
        self._refused = reason
        logger.error("no final fit: %s", reason)

    @property
    def error(self) -> str:
        """Why it was given up; empty if it was not."""
        return f"training.final: {self._refused}" if self._refused else ""
