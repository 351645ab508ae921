"""A daemon that works only while it holds an office: of all hosts one process does.

A process lock answers at once, but on its own host alone. So the daemon proper is not even made before the office is
held, and writes nothing any more once it is lost.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from typing import Any, Final, Protocol, runtime_checkable

from mlip_autopipec.core.clock import SystemClock
from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.daemons.launch import AlreadyRunning
from mlip_autopipec.runtime.serve import Daemon, Judging, Outcome, Reporting
from mlip_autopipec.store.office import Office
from mlip_autopipec.store.rundir import RunDirectory

logger = logging.getLogger(__name__)

WAITING: Final = "waiting"
_INTERRUPTED, _NOT_DONE = 130, 75


def supervisors_office(run: RunDirectory, lease_s: float) -> Office:
    """Return the office of those who merge events, know the phase and freeze the configuration."""
    return Office(run.heartbeats / "supervisor.lease", lease_s, SystemClock())


def runners_office(run: RunDirectory, lease_s: float) -> Office:
    """Return the office of those who start walkers."""
    return Office(run.heartbeats / "otf-runner.lease", lease_s, SystemClock())


def trainers_office(run: RunDirectory, lease_s: float) -> Office:
    """Return the office of those who write dataset and versions."""
    return Office(run.potentials / ".trainer.lease", lease_s, SystemClock())


@runtime_checkable
class Dismissable(Protocol):
    """A daemon that would still write something when it is closed."""

    def dismiss(self) -> None:
        """Take notice that another process does this work now."""
        ...


class InOffice:
    """A `runtime.serve.Daemon` around another one.

    Parameters
    ----------
    office
        To be held.
    make
        Makes the daemon proper, once the office is held.
    wait
        True: stand by until the holder ends or dies. False: leave as soon as the holder is seen to live.
    """

    def __init__(self, office: Office, make: Callable[[], Daemon], *, wait: bool) -> None:
        self.inner: Daemon | None = None
        self._office = office
        self._make = make
        self._wait = wait
        self._draining = False

    def start(self) -> None:
        """Take the office and start, if nobody holds it.

        Raises
        ------
        AlreadyRunning
            Its holder lives, and is not waited for.
        """
        self._enter()

    def step(self, now: float) -> Outcome:
        """Show life and let the daemon step; before, look whether the office is free.

        Raises
        ------
        QueueError
            The office was taken over: this process was taken for dead (transient).
        """
        if self.inner is None:
            if self._draining:
                return Outcome.DONE
            return Outcome.WORKED if self._enter() else Outcome.IDLE
        try:
            self._office.beat()
        except QueueError:
            if isinstance(self.inner, Dismissable):
                self.inner.dismiss()
            raise
        return self.inner.step(now)

    def drain(self) -> None:
        self._draining = True
        if self.inner is not None:
            self.inner.drain()

    def close(self) -> None:
        """Close the daemon, then leave the office free (idempotent)."""
        try:
            if self.inner is not None:
                self.inner.close()
        finally:
            self._office.drop()

    def status(self) -> tuple[str, dict[str, Any]]:
        """Return what the daemon says; before, who is waited for."""
        if self.inner is None:
            return WAITING, {"waiting_for": f"the office of {self._office.holder()}"}
        return self.inner.status() if isinstance(self.inner, Reporting) else ("running", {})

    def ending(self, number: int | None) -> int:
        """Return the exit code; who never got the office, and did not come to stand by, has not done its work."""
        if self.inner is None and not self._wait:
            return _INTERRUPTED if number == signal.SIGINT else _NOT_DONE
        return self.inner.ending(number) if isinstance(self.inner, Judging) else 0

    def _enter(self) -> bool:
        if not self._office.take():
            if self._office.holder_lives and not self._wait:
                raise AlreadyRunning(
                    f"{self._office.holder()} does this work already", "one per run: stop that one", transient=True
                )
            return False
        self.inner = self._make()
        self.inner.start()
        return True
