"""dft-worker: claims the most uncertain task, has it labelled in a child process, writes the result.

The child is killed, with everything it started, after a crash, a time limit, a cancellation, and by the kernel when
this process dies. Its answer ends the worker's sleep.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mlip_autopipec.core.errors import AutopipeError, ConfigError, DataError, QueueError, TimedOut
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.core.interfaces import Labeller
from mlip_autopipec.daemons.bench import BenchSettings
from mlip_autopipec.daemons.benchchild import BenchChild
from mlip_autopipec.daemons.labeljob import LabelJob
from mlip_autopipec.daemons.labellers import make_labeller
from mlip_autopipec.daemons.queues import dft_queue
from mlip_autopipec.daemons.settings import NodeSettings, SupervisorSettings
from mlip_autopipec.daemons.walltime import Walltime
from mlip_autopipec.runtime.child import Result
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.stages.label import LabellingSettings
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.costs import CostLedger
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import QueueSettings
from mlip_autopipec.store.twins import Twins

if TYPE_CHECKING:
    from mlip_autopipec.stages.train import TrainingSettings  # the fit's libraries take a second to import

logger = logging.getLogger(__name__)

_BEATS_PER_LEASE = 12
_LONGEST_BEAT_S = 10.0
_SWEEPS_PER_LEASE = 4
_SWEEP_LEASES = 2  # within which a sweep converges
_FULL_DISK_S = 5.0
_DISK_HINT = "free some space or mend the disk; the task is labelled again"


class WorkerConfig(Protocol):
    """The sections of the configuration that a worker reads."""

    @property
    def queue(self) -> QueueSettings: ...

    @property
    def supervisor(self) -> SupervisorSettings: ...

    @property
    def node(self) -> NodeSettings: ...

    @property
    def labelling(self) -> LabellingSettings: ...

    @property
    def training(self) -> TrainingSettings: ...


class DftWorker:
    """A `runtime.serve.Daemon` that labels.

    Parameters
    ----------
    run, config
        Run directory and its configuration.
    name
        Name of this process, unique in the run on all nodes: of lease, events and records.
    max_tasks
        End after so many tasks; None: never.
    idle_timeout_s
        End after so long without a task, s; None: never.
    max_time_s
        Claim nothing after so long, s; None: no limit.
    deadline_s
        The machine is taken away after so long, s: end before, with the task given back if need be; None: never.
    make
        Makes a labeller from a task's settings; an importable function, since it is called in the child.
    """

    def __init__(
        self,
        run: RunDirectory,
        config: WorkerConfig,
        name: str,
        *,
        max_tasks: int | None = None,
        idle_timeout_s: float | None = None,
        max_time_s: float | None = None,
        deadline_s: float | None = None,
        make: Callable[..., Labeller] = make_labeller,
    ) -> None:
        self.run = run
        self.name = name
        self.settings = config.supervisor
        self.queue = dft_queue(run, config.queue, worker=name)
        self.events = EventLog(run.events, name)
        self.control = Control(run.control)
        ends = None if deadline_s is None else time.monotonic() + deadline_s - self.settings.label_grace_s
        # The engine stops by itself before, and leaves what the next worker goes on from.
        node = config.node if ends is None else config.node.before(ends)
        bench = BenchSettings(run.root, name, node, config.labelling, config.training.force_limit)
        self._child = BenchChild(bench, make, f"{name} labeller")
        self._ledger = CostLedger(run.costs, name)
        self._twins = Twins(self.queue.results)
        self._beat_s = min(_LONGEST_BEAT_S, config.queue.lease_s / _BEATS_PER_LEASE)
        self._sweep_s = config.queue.lease_s / _SWEEPS_PER_LEASE
        self._lease_s = config.queue.lease_s
        self._max_tasks = max_tasks
        self._idle_timeout_s = idle_timeout_s
        self._walltime = Walltime(max_time_s, deadline_s, self.settings.label_grace_s)
        self._job: LabelJob | None = None
        self._next_beat = 0.0
        self._busy_until: float | None = None  # the last moment with a task, for `idle_timeout_s`
        self._look_at, self._stay = float("-inf"), False
        self._unsaved: dict[str, Any] | None = None  # a label that the disk did not take
        self._save_at = 0.0
        self._draining = False
        self._give_back_at = float("inf")
        self._labelled = self._failed = 0

    # --- life -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Warm the child up; tasks of an earlier process of this name go back with the first claim."""
        self._child.warm_up()

    def step(self, now: float) -> Outcome:
        """Beat; look after the label that is being made, or claim the next task."""
        if now >= self._next_beat:
            self._next_beat = now + self._beat_s
            self._beat()
        if self._walltime.must_give_back(now):
            self._give_back_at = now
        if self._draining:
            self._give_back_at = min(self._give_back_at, now + self.settings.label_grace_s)
        if self._job is not None:
            return self._look(self._job, now)
        if self._draining or self._enough(now):
            return Outcome.DONE
        if self.control.wants("pause"):
            return Outcome.IDLE
        return self._claim(now)

    def drain(self) -> None:
        """Claim nothing any more; the label in work gets the grace time, then its task goes back."""
        self._draining = True

    def close(self) -> None:
        """Give back what is held and leave no process (idempotent)."""
        if self._job is not None:
            self._return("worker ended")
        self._child.close()
        self.queue.release()

    def status(self) -> tuple[str, dict[str, Any]]:
        state = "labelling" if self._job else "paused" if self.control.wants("pause") else "idle"
        return state, {
            "task": self._job.id if self._job else None,
            "labelled": self._labelled,
            "failed": self._failed,
        }

    def wake_folder(self) -> Path:
        """Where published tasks appear."""
        return self.queue.layout.pending

    def waits_for(self) -> Sequence[Connection]:
        """What becomes readable when the label in work is done."""
        return self._child.sources() if self._job is not None and self._unsaved is None else []

    # --- claiming ---------------------------------------------------------------------------------------------

    def _enough(self, now: float) -> bool:
        if self._max_tasks is not None and self._labelled + self._failed >= self._max_tasks:
            return True
        if self._walltime.is_over(now):
            return True
        if self._busy_until is None:
            self._busy_until = now
        if self._idle_timeout_s is None or now < (leave_at := self._busy_until + self._idle_timeout_s):
            return False
        # Who leaves while a sweep still owes tasks to the queue might be the last who could do them.
        if now >= leave_at + _SWEEP_LEASES * self._lease_s:
            return True
        if now >= self._look_at:
            self._look_at, self._stay = now + self._beat_s, self.queue.revivable() > 0
        return not self._stay

    def _claim(self, now: float) -> Outcome:
        claim = self.queue.claim()
        if claim is None and self._sweep():
            claim = self.queue.claim()  # now: at the next step the idle time may be over
        if claim is None:
            return Outcome.IDLE
        folder = self.run.attempt(claim.task.id) / f"{claim.attempt:02d}-{self.name}"
        folder.mkdir(parents=True, exist_ok=True)
        self._job = LabelJob(claim, folder, now, now + self.settings.label_timeout_s)
        self.events.emit("task_claimed", **self._job.facts())
        self._child.label(claim.task.to_dict(), folder)
        return Outcome.WORKED

    def _sweep(self) -> bool:
        """Converge what lies wrong, if it is time to; true if something did."""
        actions = self.queue.sweep(every_s=self._sweep_s)
        for action in actions:
            logger.info("sweep: %s", action)
        return bool(actions)

    # --- looking after a label --------------------------------------------------------------------------------

    def _look(self, job: LabelJob, now: float) -> Outcome:
        self._busy_until = now
        if self._unsaved is not None:
            return self._save(job, self._unsaved, now)
        result = self._child.poll()
        if result is None and now >= job.deadline:
            limit_s = self.settings.label_timeout_s
            error = TimedOut(f"no label after {limit_s:g} s", "raise supervisor.label_timeout_s", transient=True)
            result = Result(error=error, died=True)
        if result is not None:
            self._walltime.finished(now - job.begin)
            return self._finish(job, result, now)
        if now >= self._give_back_at:
            end = "its time is over" if self._walltime.must_give_back(now) else "worker drained"
            self._return(f"{end} before the label was done")
            return Outcome.WORKED
        return Outcome.IDLE

    def _finish(self, job: LabelJob, result: Result, now: float) -> Outcome:
        if result.died:
            self._child.kill([job.folder])
        if isinstance(result.error, ConfigError):
            # This node cannot label at all: failing the task here would burn the attempts that another node can use.
            self._return(result.error.message)
            raise result.error
        if result.error is None:
            return self._save(job, result.value, now)
        self._fail(job, result.error, result.traceback)
        return Outcome.WORKED

    def _save(self, job: LabelJob, record: dict[str, Any], now: float) -> Outcome:
        """Write the result; while the disk does not take it, keep the label in memory and try again."""
        if now < self._save_at:
            return Outcome.IDLE
        try:
            first = self.queue.complete(job.claim, record)
        except (QueueError, OSError) as error:
            if isinstance(error, QueueError) and not error.transient:
                raise
            if now >= self._give_back_at:
                raise QueueError(f"task {job.id}: label not written: {error}", _DISK_HINT, transient=True) from error
            logger.warning("task %s: label not written yet: %s", job.id, error)
            self._unsaved, self._save_at = record, now + _FULL_DISK_S
            return Outcome.IDLE
        except DataError as error:
            self._fail(job, error, "")
            return Outcome.WORKED
        self._job = self._unsaved = None
        self._labelled += 1
        reused = record["info"].get("reused_from")
        self._ledger.add(job.cost("reused" if reused else "done", record["info"]["wall_s"]))
        if first and not reused:
            self._twins.add(record["info"]["likeness"], job.id)
        if first:
            self.events.emit("label_done", **job.facts())
        else:
            logger.info("task %s: another worker's label came first, mine is not used", job.id)
        job.tidy()
        return Outcome.WORKED

    def _fail(self, job: LabelJob, error: AutopipeError, trace: str) -> None:
        self._job = self._unsaved = None
        self._failed += 1
        reason = f"{type(error).__name__}: {error}"
        outcome = self.queue.fail(job.claim, reason, transient=error.transient)
        self._ledger.add(job.cost(outcome))
        logger.warning("task %s: %s: %s", job.id, outcome, reason)
        if trace:
            logger.debug("%s", trace)
        self.events.emit("label_failed", **job.facts(), reason=reason, outcome=outcome)
        job.tidy()

    def _return(self, reason: str) -> None:
        """Stop the label in work and put its task back."""
        job, self._job, self._unsaved = self._job, None, None
        self._child.kill([job.folder] if job else [])
        if job is not None:
            self.queue.give_back(job.claim, reason)
            self._ledger.add(job.cost("given back"))
            logger.info("task %s: given back: %s", job.id, reason)

    def _beat(self) -> None:
        """Show life to the queue, and drop what the user has cancelled meanwhile."""
        if self._job is not None and self._job.id in self.queue.beat():
            self._return("cancelled")
