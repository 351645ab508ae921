"""Tasks, labels and queues for tests of the store."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.store.layout import id_in_name
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results, make_result
from mlip_autopipec.store.task import Task

CREATED = "2025-01-31T23:59:59.000Z"
LEASE_S = 120.0


def make_task(number: int, gamma: float = 3.0) -> Task:
    """Return a task of two atoms whose distance is its identity."""
    atoms = Atoms("Al2", positions=[[0, 0, 0], [0, 0, 2 + number / 1000]], cell=[8, 8, 8], pbc=True)
    return Task.new(
        atoms,
        [1, 0],
        {"engine": "teacher", "model": "emt"},
        priority=gamma,
        origin={"walker": "w00", "step": 17, "version": "v0001"},
        config_type="active_learning",
        created=CREATED,
    )


def make_record(task: Task, energy: float = -1.0, worker: str = "w") -> dict[str, Any]:
    """Return a valid result of `task`."""
    n_atoms = len(task.force_mask)
    return make_result(task, Label(energy, np.full((n_atoms, 3), 0.5), np.zeros(6), {"steps": 3}), worker, CREATED)


def open_queue(run: Path, worker: str, clock: Any = None, **options: Any) -> TaskQueue:
    """Return the queue of the run directory `run`, without fsync."""
    options = {"fsync": False, "rng": random.Random(0), "lease_s": LEASE_S, **options}
    results = Results(run / "results", fsync=options["fsync"])
    return TaskQueue(run / "queue" / "dft", results, worker=worker, clock=clock or ManualClock(), **options)


def files_of(queue: TaskQueue) -> dict[str, list[str]]:
    """Return {id: [path below the queue's folder, ...]} of every task file, wherever it lies."""
    places: dict[str, list[str]] = {}
    for folder, _, names in os.walk(queue.layout.root):
        for name in names:
            if (task_id := id_in_name(name)) is not None:
                place = os.path.relpath(os.path.join(folder, name), queue.layout.root)
                places.setdefault(task_id, []).append(place)
    return places


def converge(queue: TaskQueue, clock: ManualClock, passes: int = 4) -> list[str]:
    """Sweep until two leases have passed and more; return what was done."""
    did = []
    for _ in range(passes):
        did += queue.sweep()
        clock.advance(LEASE_S)
    return did + queue.sweep()
