"""The first tasks of a run: the user's structures that have no label yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlip_autopipec.core.clock import Clock, SystemClock, iso_time
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.queues import dft_queue
from mlip_autopipec.stages.explore import read_structures, seed_tasks
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.config import Config


def publish_seeds(run: RunDirectory, config: Config, process: str, clock: Clock | None = None) -> list[str]:
    """Publish a task for each unlabelled structure of `start.dataset`; return the ids that were new.

    Idempotent: a structure that the queue knows, in whatever state, is not published again.
    """
    if config.start.dataset is None:
        return []
    clock = clock or SystemClock()
    queue = dft_queue(run, config.queue, worker=process)
    events = EventLog(run.events, process, clock)
    frames = read_structures(config.path(run, config.start.dataset), "start.dataset")
    published = []
    for task in seed_tasks(frames, config.labeller_settings(), iso_time(clock.wall())):
        if queue.publish(task):
            events.emit("task_published", task_ids=[task.id], priority=task.priority, config_type=task.config_type)
            published.append(task.id)
    return published
