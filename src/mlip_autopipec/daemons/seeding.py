"""The first tasks of a run: the user's structures that have no label yet, or trajectories that start from them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from mlip_autopipec.core.clock import Clock, SystemClock, iso_time
from mlip_autopipec.core.events import EventLog
from mlip_autopipec.daemons.exploring import Exploration
from mlip_autopipec.daemons.queues import dft_queue, explore_queue
from mlip_autopipec.stages.exploration import exploration_tasks
from mlip_autopipec.stages.explore import read_structures, seed_tasks
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task

if TYPE_CHECKING:
    from mlip_autopipec.config import Config
    from mlip_autopipec.daemons.picking import PickingSettings

logger = logging.getLogger(__name__)


def publish_seeds(run: RunDirectory, config: Config, process: str, clock: Clock | None = None) -> list[str]:
    """Publish a task for each unlabelled structure of `start.dataset`; return the ids that were new.

    With a surrogate the trajectories are published instead, and what is labelled is picked from them. Idempotent: a
    structure that a queue knows, in whatever state, is not published again.
    """
    if config.start.dataset is None:
        return []
    clock = clock or SystemClock()
    if config.explore.explores:
        return publish_trajectories(run, config, process, clock)
    queue = dft_queue(run, config.queue, worker=process)
    events = EventLog(run.events, process, clock)
    frames = read_structures(config.path(run, config.start.dataset), "start.dataset")
    published = []
    for task in seed_tasks(frames, config.labeller_settings(), iso_time(clock.wall())):
        if queue.publish(task):
            events.emit("task_published", task_ids=[task.id], priority=task.priority, config_type=task.config_type)
            published.append(task.id)
    if published:
        logger.info("no surrogate (explore.surrogate.kind: none): the %d seeds alone are labelled", len(published))
    return published


def publish_trajectories(run: RunDirectory, config: Config, process: str, clock: Clock) -> list[str]:
    """Publish the run's trajectories unless its exploration is over; return the ids that were new."""
    if config.start.dataset is None or Exploration(run, config, process).is_over() or _has_potential(run):
        return []
    queue, tasks = explore_queue(run, config.queue, worker=process), trajectories_of(run, config, clock)
    earlier = {task_id for _, task_id, _, _ in queue.ls()} - {task.id for task in tasks}
    if earlier:
        logger.warning(
            "%d trajectories of before `explore` (or the seeds) changed stand: no others are published; "
            "explore.picks alone still counts", len(earlier),
        )  # fmt: skip
        return []
    found = [(task.id, queue.publish(task)) for task in tasks]
    if not found:
        logger.warning("no seed has the four atoms that MD needs: what is labelled is picked from the seeds alone")
        from mlip_autopipec.daemons.picking import pick  # brings scikit-learn, which no supervisor needs

        pick(picking_settings(run, config, process))
    published = [task_id for task_id, is_new in found if is_new]
    if published:
        EventLog(run.events, process, clock).emit(
            "exploration_published", task_ids=published, surrogate=config.explore.surrogate.kind
        )
    return published


def trajectories_of(run: RunDirectory, config: Config, clock: Clock) -> list[Task]:
    """Return the trajectories that the configuration asks for; none without `start.dataset`."""
    if config.start.dataset is None:
        return []
    settings = config.explore
    tasks = exploration_tasks(
        read_structures(config.path(run, config.start.dataset), "start.dataset"), settings.surrogate.in_task(),
        temperatures=settings.temperatures, pressures_bar=settings.pressures_bar, steps=settings.steps,
        stride=settings.stride, timestep_fs=settings.timestep_fs, trajectories=settings.trajectories,
        shares=settings.shares, seed=settings.seed, created=iso_time(clock.wall()),
    )  # fmt: skip
    return list(tasks)


def picking_settings(run: RunDirectory, config: Config, process: str) -> PickingSettings:
    """Return what picking needs of a configuration with `start.dataset`."""
    from mlip_autopipec.daemons.picking import PickingSettings

    dataset = config.path(run, config.start.dataset) if config.start.dataset is not None else run.start
    return PickingSettings(
        run.root, process, dataset, config.explore, config.labeller_settings(), config.queue, config.training.basis
    )


def _has_potential(run: RunDirectory) -> bool:
    return bool(Registry(run.potentials).versions())
