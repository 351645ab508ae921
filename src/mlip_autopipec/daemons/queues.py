"""The run's task queues, opened with the run's settings."""

from __future__ import annotations

from mlip_autopipec.store.exploration import explored_results
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.settings import QueueSettings


def dft_queue(run: RunDirectory, settings: QueueSettings, *, worker: str) -> TaskQueue:
    """Return the queue of labelling tasks as seen by `worker`."""
    return _queue(run, "dft", Results(run.results, fsync=settings.fsync), settings, worker)


def explore_queue(run: RunDirectory, settings: QueueSettings, *, worker: str) -> TaskQueue:
    """Return the queue of trajectories as seen by `worker`."""
    return _queue(run, "explore", explored_results(run, fsync=settings.fsync), settings, worker)


def _queue(run: RunDirectory, kind: str, results: Results, settings: QueueSettings, worker: str) -> TaskQueue:
    return TaskQueue(
        run.queue / kind,
        results,
        worker=worker,
        attempts=run.attempts,
        lease_s=settings.lease_s,
        fsync=settings.fsync,
        retries=settings.retries,
        retry_delay_s=settings.retry_delay_s,
    )
