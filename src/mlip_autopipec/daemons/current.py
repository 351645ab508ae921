"""The potential version that is current, loaded and ready: reloaded when `current.json` is replaced."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from mlip_autopipec.core.errors import AutopipeError, ModelError
from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.store.registry import Registry

log = logging.getLogger(__name__)

_NEVER = object()


class CurrentPotential:
    """Follows `potentials/current.json`.

    Parameters
    ----------
    make_evaluator
        Gives the evaluator of a version folder.

    Attributes
    ----------
    version : name of the loaded version, None before the first
    missing : what is waited for while there is none
    """

    def __init__(self, registry: Registry, make_evaluator: Callable[[Path], Evaluator]) -> None:
        self.version: str | None = None
        self.missing = "v0001"
        self._registry = registry
        self._make_evaluator = make_evaluator
        self._evaluator: Evaluator | None = None
        self._seen: object = _NEVER

    def follow(self) -> None:
        """Load what is current now if it changed; costs one `stat` if not.

        A version that cannot be loaded never replaces one that works: it is logged, and the next change is awaited.
        """
        stamp = self._registry.current_stamp()
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            current = self._registry.current()
            if current is not None and current.version != self.version:
                self._evaluator = self._make_evaluator(self._registry.path(current.version))
                self.version = current.version
        except AutopipeError as error:
            log.error("the current version is not loaded: %s", error)
            self.missing = f"a current version that loads: {error.message}"

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
