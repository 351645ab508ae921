"""How far the exploration is, and what was picked; reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.runtime.heartbeat import read_heartbeat
from mlip_autopipec.store.exploration import SelectionRecord, explored_results
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.rundir import RunDirectory


def collect(run: RunDirectory) -> dict[str, Any]:
    """Return everything that `autopipe explore status` shows, JSON-ready."""
    results = explored_results(run)
    queue = TaskQueue(run.queue / "explore", results, worker="status", attempts=run.attempts)
    records = [results.read(task_id) for task_id in sorted(results.ids())]
    beats = [read_heartbeat(path) for path in sorted(run.heartbeats.glob("explore*.json"))]
    return {
        "queue": queue.counts(),
        "explored": [_trajectory(record) for record in records],
        "speeds": _speeds(records),
        "failed": {i: queue.reason(i) for _, i, _, _ in queue.ls("failed")},
        "workers": [{key: beat[key] for key in ("name", "state", "detail")} for beat in beats if beat],
        "selection": selection_facts(run),
    }


def selection_facts(run: RunDirectory) -> dict[str, Any] | None:
    """Return what was picked from what, None if nothing is picked yet.

    Raises
    ------
    DataError
        The file is damaged.
    """
    record = SelectionRecord.read(run)
    if record is None:
        return None
    return {**asdict(record), "picks": len(record.picks), "by_kind": record.by_kind()}


def _speeds(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return how fast MD went on each device, by how many trajectories were moved at once: medians."""
    found: dict[tuple[str, int], list[float]] = {}
    for record in records:
        info = record["info"]
        if "atom_steps_per_s" in info:  # results of before have none
            found.setdefault((info["device"], info["at_once"]), []).append(info["atom_steps_per_s"])
    return [
        {"device": device, "at_once": n, "trajectories": len(speeds), "atom_steps_per_s": median(speeds)}
        for (device, n), speeds in sorted(found.items())
    ]


def _trajectory(record: dict[str, Any]) -> dict[str, Any]:
    task = record["task"]
    if "temperature" not in task["labeller"]:
        raise DataError(f"exploration {record['id']}: is of no trajectory", "remove the file from explored/")
    return {
        "id": record["id"],
        "kind": task["config_type"],
        "atoms": len(task["force_mask"]),
        "temperature": task["labeller"]["temperature"],
        "pressure_bar": task["labeller"]["pressure_bar"],
        "steps": f"{record['steps']}/{task['labeller']['steps']}",
        "frames": record["n_frames"],
        "complaint": record["complaint"],
    }
