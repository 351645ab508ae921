"""Counts after a run: where every task and every label is, who executed what, and what must not have happened."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos_runs.nfs_lab.host import open_queue

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.store.layout import id_in_name
from mlip_autopipec.store.task import Task


@dataclass
class Executions:
    """What the logs of the guests say.

    Attributes
    ----------
    starts, again : task id -> how often it was begun; failed or given back
    excused : task id -> how often its holder was killed, or put to sleep at some time, or its file moved by hand
    firsts : task id -> energies of those that were told that their label is the first
    """

    starts: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    events: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


def read_logs(folder: Path, hosts: set[str]) -> Executions:
    """Read the logs of all processes; those of the supervisors are named like their hosts."""
    found = Executions()
    hurt: set[str] = set()
    for host in hosts:
        for line in (folder / host).read_text().splitlines():
            what, name = line.split()
            found.events[what] += 1
            hurt.add(f"{host}-{name}")
    for path in sorted(folder.iterdir()):
        if path.name not in hosts:
            _read_log(path, found, path.name in hurt)
    return found


def _read_log(path: Path, found: Executions, hurt: bool) -> None:
    begun: set[str] = set()
    for line in path.read_text().splitlines():
        what, _, rest = line.partition(" ")
        task_id = rest.partition(" ")[0]
        found.events[what] += 1
        if what == "start":
            begun.add(task_id)
            found.starts[task_id] += 1
        elif what == "moved":
            found.excused[task_id] += 1
        elif what == "again":
            found.again[task_id] += 1
        elif what == "first":
            found.firsts[task_id].append(float(rest.partition(" ")[2]))
        elif what in ("error", "QueueError"):
            found.errors.append(f"{path.name}: {line}")
    if hurt:
        found.excused.update(begun)


def _files(root: Path) -> Iterator[tuple[str, Path]]:
    for folder, _, names in os.walk(root):
        for name in names:
            if task_id := id_in_name(name):
                yield task_id, Path(folder) / name


def count(run: Path, logs: Path, hosts: set[str], published: list[Task]) -> dict[str, Any]:
    """Count; `run` is read where the server keeps it, after all hosts have gone."""
    queue, did = open_queue(run, "ledger", 1.0), read_logs(logs, hosts)
    places: Counter[str] = Counter()
    torn = 0
    for task_id, path in _files(queue.layout.root):
        places[task_id] += 1
        try:
            torn += Task.read(path).id != task_id
        except DataError:
            torn += 1
    no_label, replaced = 0, 0
    for task in published:
        try:
            energy = queue.results.read(task.id)["energy"]
        except FileNotFoundError:
            no_label += 1
        except DataError:
            torn += 1
        else:
            replaced += any(energy != first for first in did.firsts[task.id])
    repeats = {task.id: did.starts[task.id] - did.again[task.id] - 1 for task in published}
    causeless = 0
    for task_id, extra in repeats.items():
        lost = sum(event["event"] == "lost" for event in queue.history.read(task_id)) if extra > 0 else 0
        causeless += max(0, extra - did.excused[task_id] - lost)
    return {
        "worker_kills": did.events["killed"],
        "worker_stops": did.events["stopped"],
        "hand_moves": did.events["moved"],
        "renames_mine": did.events["mine"],
        "links_mine": did.events["linked"],
        "executions": sum(did.starts.values()),
        "re_executions": sum(n for n in repeats.values() if n > 0),
        "re_executions_without_cause": causeless,
        "lost": sum(places[task.id] == 0 for task in published) + no_label,
        "duplicated": sum(n > 1 for n in places.values()) + sum(len(f) > 1 for f in did.firsts.values()) + replaced,
        "torn": torn,
        "states": {state: n for state, n in queue.counts().items() if n},
        "errors": did.errors,
    }
