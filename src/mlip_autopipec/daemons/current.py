"""The potential version that is current, loaded and ready: reloaded when `current.json` is replaced."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from mlip_autopipec.core.clock import Clock, SystemClock
from mlip_autopipec.core.errors import AutopipeError, ModelError
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.store.registry import Registry

log = logging.getLogger(__name__)

_NEVER = object()
_RETRY_S = 5.0


class CurrentPotential:
    """Follows `potentials/current.json`.

    Parameters
    ----------
    make_evaluator
        Gives the evaluator of a version folder.
    clock
        For the pauses after a failure.

    Attributes
    ----------
    version : name of the loaded version, None before the first
    missing : what is waited for while there is none
    """

    def __init__(
        self, registry: Registry, make_evaluator: Callable[[Path], Evaluator], clock: Clock | None = None
    ) -> None:
        self.version: str | None = None
        self.missing = "v0001"
        self._registry = registry
        self._make_evaluator = make_evaluator
        self._evaluator: Evaluator | None = None
        self._seen: object = _NEVER
        self._failed: object = _NEVER  # what was there when a load failed
        self._clock = clock or SystemClock()
        self._try_at = float("-inf")
        self._told = ""

    def follow(self) -> None:
        """Load what is current now if it changed; costs one `stat` if not.

        A version that cannot be loaded never replaces one that works: it is logged, and tried again after a while,
        since what was missing (memory, a file that another host shows late) may be there then.
        """
        stamp = self._registry.current_stamp()
        if stamp == self._seen or (stamp == self._failed and self._clock.monotonic() < self._try_at):
            return
        try:
            current = self._registry.current()
            if current is not None and current.version != self.version:
                self._evaluator = self._make_evaluator(self._registry.path(current.version))
                self.version = current.version
        except (AutopipeError, OSError, MemoryError) as error:
            self._failed, self._try_at = stamp, self._clock.monotonic() + _RETRY_S
            told = error.message if isinstance(error, AutopipeError) else f"{type(error).__name__}: {error}"
            if told != self._told:
                log.error("the current version is not loaded: %s", error)
            self._told, self.missing = told, f"a current version that loads: {told}"
        else:
            self._seen, self._failed, self._told = stamp, _NEVER, ""

    @property
    def evaluator(self) -> Evaluator:
        """The evaluator of `version`.

        Raises
        ------
        ModelError
            None was loaded yet.
        """
        if self._evaluator is None:
            raise ModelError("no potential version is loaded", "`autopipe status` says what v0001 waits for")
        return self._evaluator
