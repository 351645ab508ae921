"""The supervisor: keeps this host's daemons alive, merges their events, knows where the run stands.

It is the only writer of `events.jsonl` and `state.json`. It does no work of the loop itself: when it dies, its daemons
drain, and a new one goes on from the files.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mlip_autopipec.core.clock import Clock, SystemClock
from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.event_merge import EventMerger
from mlip_autopipec.daemons.event_recovery import EventRecovery
from mlip_autopipec.daemons.exploring import Exploration
from mlip_autopipec.daemons.narrator import Narrator
from mlip_autopipec.daemons.progress import Progress
from mlip_autopipec.daemons.queues import dft_queue, explore_queue
from mlip_autopipec.daemons.service_process import ServiceProcess
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.watch import walker_plans
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config

logger = logging.getLogger(__name__)

_STATE_S = 1.0
_OVER: Final[dict[str | None, int]] = {"done": 0, "stuck": 3}  # phase -> exit code
_INTERRUPTED, _NOT_DONE = 130, 75
# Fractions of the patience, so that a gap is filled before anything that waits for it is marked late.
_GAP_FRACTION = 0.3
_SCAN_FRACTION = 0.2
# A scan lists every task and result: it may take up to one percent of the time.
_SCAN_SHARE = 0.01


def default_services(config: Config) -> list[tuple[str, str]]:
    """Return module and name of the daemons of one host."""
    workers = [("autopipe_services.dft_worker", f"dft-worker-{i}") for i in range(config.supervisor.dft_workers)]
    explorers = [("autopipe_services.explorer_worker", "explorer-worker-0")] if config.explore.explores else []
    return [
        *explorers,
        *workers,
        ("autopipe_services.trainer_worker", "trainer-worker"),
        ("autopipe_services.otf_runner", "otf-runner"),
    ]


class Supervisor:
    """A `runtime.serve.Daemon` that looks after the others.

    Parameters
    ----------
    run, config
        The run and its configuration.
    foreground
        True: end when the run is done. False: keep the daemons at hand until somebody stops them.
    at_start
        What to do once before the daemons start, e.g. publish the first tasks.
    services
        Module and name of each daemon; empty if something else (systemd) keeps them alive.
    say
        Shows a line to a person at the terminal; None if nobody looks.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: Config,
        name: str = "supervisor",
        *,
        foreground: bool = False,
        at_start: Sequence[Callable[[], None]] = (),
        services: Sequence[tuple[str, str]] | None = None,
        say: Callable[[str], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.run = run
        self.settings = config.supervisor
        self.name = name
        self.foreground = foreground
        self.at_start = at_start
        wanted = default_services(config) if services is None else services
        self.services = [ServiceProcess(run, self.settings, module=m, name=n) for m, n in wanted]
        clock = clock or SystemClock()
        self.queue = dft_queue(run, config.queue, worker=name)
        registry, results = Registry(run.potentials), Results(run.results)
        patience_s = self.settings.event_patience_s
        self.merger = EventMerger(
            run.events, run.merged_events, patience_s=patience_s, clock=clock, has_result=results.exists
        )
        self.recovery = EventRecovery(
            self.queue, results, registry, self.merger, EventLog(run.events, name, clock),
            after_s=_GAP_FRACTION * patience_s, clock=clock,
        )  # fmt: skip
        self._explorations = explore_queue(run, config.queue, worker=name)
        self.progress = Progress(
            run, self.queue, registry, {plan.name for plan in walker_plans(config.otf)}, Exploration(run, config, name)
        )
        self.narrator = None if say is None else Narrator(run, config.otf.uncertainty_threshold, say)
        self._next_state = self._next_scan = float("-inf")
        self._kill_at: float | None = None
        self._dismissed = False
        self._clock = clock

    # --- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Run the hooks; the daemons follow with the first step."""
        for hook in self.at_start:
            hook()

    def step(self, now: float) -> Outcome:
        """Look after the daemons, the events and the state once."""
        if self._kill_at is not None:
            return self._leave(now, self._kill_at)
        for service in self.services:
            if service.tend(now):
                self._take_back(service.name)
        merged = self.merger.merge()
        self._scan(now)
        if now >= self._next_state:
            self._next_state = now + _STATE_S
            if self._phase() in _OVER and self.foreground:
                logger.info("all walkers have ended and all labels are ingested")
                self.drain()
        self._narrate(merged, now)
        return Outcome.WORKED if merged else Outcome.IDLE

    def drain(self) -> None:
        """Ask every daemon to drain."""
        if self._kill_at is None:
            self._kill_at = self._clock.monotonic() + self.settings.grace_s
            for service in self.services:
                service.terminate()

    def dismiss(self) -> None:
        """Write nothing any more: a supervisor of another host has the run."""
        self._dismissed = True

    def close(self) -> None:
        """Leave no daemon behind, and no event unmerged (idempotent)."""
        deadline = time.monotonic() + self.settings.grace_s
        for service in self.services:
            service.terminate()
        while not all(service.gone() for service in self.services):
            if time.monotonic() > deadline:
                self._kill_all()
            time.sleep(0.02)
        if not self._dismissed:
            self.merger.merge()
            self.recovery.scan(final=True)
            self.merger.merge(final=True)
        self.queue.release()

    def ending(self, number: int | None) -> int:
        """Return the exit code; who waits for the run in a terminal or a script is told whether it is done."""
        if not self.foreground:
            return 0
        if self.progress.phase in _OVER:
            code = _OVER[self.progress.phase]
        else:
            code = _INTERRUPTED if number == signal.SIGINT else _NOT_DONE
        if code and self.narrator is not None:
            self.narrator.part(self.progress.state)
        return code

    def status(self) -> tuple[str, dict[str, Any]]:
        state = self.progress.state
        return state.phase, {
            "generation": state.generation,
            "pending_tasks": state.pending_tasks,
            **({"bootstrap": state.bootstrap} if state.bootstrap else {}),
            "children": {service.name: service.describe() for service in self.services},
            "events": {"waiting": self.merger.waiting, "late": self.merger.late},
        }

    # --- inside -----------------------------------------------------------------------------------------------

    def _phase(self) -> str | None:
        try:
            return self.progress.update()
        except OSError as error:  # a full disk must not end the run; a second later it is tried again
            logger.warning("state not written: %s", error)
            return self.progress.phase

    def _take_back(self, worker: str) -> None:
        """Return the tasks of a dead daemon at once, without waiting for its lease to run out."""
        try:
            for queue in (self.queue, self._explorations):
                for task_id in queue.return_tasks_of(worker):
                    logger.info("task %s: held by %s, back in the queue", task_id, worker)
        except (AutopipeError, OSError) as error:  # a sweep returns them after the lease
            logger.warning("tasks of %s: %s", worker, error)

    def _scan(self, now: float) -> None:
        if now < self._next_scan:
            return
        begin = time.monotonic()
        self.recovery.scan()
        took = time.monotonic() - begin
        self._next_scan = now + max(_SCAN_FRACTION * self.settings.event_patience_s, took / _SCAN_SHARE)

    def _narrate(self, merged: Sequence[Mapping[str, Any]], now: float) -> None:
        if self.narrator is not None:
            self.narrator.tell(merged)
            self.narrator.look(now, self.progress.state)

    def _leave(self, now: float, kill_at: float) -> Outcome:
        self._narrate(self.merger.merge(), now)
        if all(service.gone() for service in self.services):
            return Outcome.DONE
        if now >= kill_at:
            self._kill_all()
        return Outcome.IDLE

    def _kill_all(self) -> None:
        for service in self.services:
            if not service.gone():
                logger.warning("%s: still there after %g s, killed", service.name, self.settings.grace_s)
                service.kill()
                self._take_back(service.name)
