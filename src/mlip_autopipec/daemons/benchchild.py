"""The process in which a dft-worker's labels are made: started when it is needed, killed with all that it started."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mlip_autopipec.core.interfaces import Labeller
from mlip_autopipec.daemons.bench import Bench, BenchSettings
from mlip_autopipec.daemons.labellers import clean_up
from mlip_autopipec.runtime.child import Child, Result


class BenchChild:
    """A `Bench` in a child process, which lives as long as its labels succeed: a spawn takes a second.

    Parameters
    ----------
    settings, make
        Of `Bench`; `make` is an importable function, since it is called in the child.
    name
        For messages.
    """

    def __init__(self, settings: BenchSettings, make: Callable[..., Labeller], name: str) -> None:
        self._settings = settings
        self._make = make
        self._name = name
        self._child: Child | None = None

    def warm_up(self) -> Child:
        """Start the process if there is none."""
        if self._child is None:
            self._child = Child(Bench, (self._settings, self._make), self._name, serves=True)
        return self._child

    def label(self, task: dict[str, Any], folder: Path) -> None:
        """Begin to label a task; inputs and outputs go into `folder`."""
        self.warm_up().send((task, folder))

    def poll(self) -> Result | None:
        """Return the result record of the label, or why there is none; None while it is being made."""
        return self.warm_up().poll()

    def sources(self) -> Sequence[Connection]:
        """Return what becomes readable when `poll` has news."""
        return self._child.sources() if self._child else []

    def kill(self, folders: Iterable[Path]) -> None:
        """Kill the process, and remove what it could not remove itself from these folders of attempts."""
        if self._child is not None:
            self._child.kill()
            self.close()
            clean_up(self._settings.node, folders)

    def close(self) -> None:
        """End the process (idempotent)."""
        if self._child is not None:
            self._child.close()
            self._child = None
