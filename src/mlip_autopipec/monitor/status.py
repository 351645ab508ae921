"""What a run is doing right now, gathered from its files. Read-only."""

from __future__ import annotations

import time
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from mlip_autopipec.core.files import read_json
from mlip_autopipec.runtime.heartbeat import heartbeat_identity, read_heartbeat
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import ENDED, WalkerState, read_all

# A daemon beats once a second; one on another host is judged by this age only, and only shown, never acted upon.
_SILENT_S = 60.0


def collect(run: RunDirectory) -> dict[str, Any]:
    """Return everything that `autopipe status` shows, JSON-ready."""
    registry = Registry(run.potentials)
    current = registry.current()
    walkers = [{**asdict(walker), "alive": _walker_lives(run, walker)} for walker in read_all(run.walkers)]
    names = {walker["name"] for walker in walkers}
    daemons = [_daemon(path) for path in sorted(run.heartbeats.glob("*.json"))]
    return {
        "run": str(run.root),
        "workflow": _workflow(run),
        "current": current.version if current else None,
        "labels": sum(1 for _ in Results(run.results).ids()),
        "daemons": [d for d in daemons if d is not None and d["name"] not in names],
        "walkers": walkers,
        "queue": TaskQueue(run.queue / "dft", Results(run.results), worker="status", attempts=run.attempts).counts(),
        "versions": [_version(registry, version) for version in registry.versions()],
    }


def problems(facts: dict[str, Any]) -> list[str]:
    """Return what needs a person, one line each."""
    lines = []
    over = facts["workflow"]["phase"] == "done"
    for daemon in facts["daemons"]:
        if not daemon["alive"] and daemon["state"] not in ("stopped", "failed") and not over:
            lines.append(f"{daemon['name']} is gone without a goodbye (pid {daemon['pid']}): autopipe otf start")
        if daemon["state"] == "failed":
            lines.append(f"{daemon['name']} failed: see logs/{daemon['name']}.log")
        if daemon["state"] == "failing":
            lines.append(f"{daemon['name']} is failing: {daemon['detail'].get('error')}")
    for walker in facts["walkers"]:
        if walker["state"] in ENDED - {"done"}:
            lines.append(f"walker {walker['name']} is {walker['state']}: {walker['reason']}")
    for state in ("failed", "corrupt"):
        if facts["queue"].get(state):
            lines.append(f"{facts['queue'][state]} task(s) {state}: autopipe queue ls --state {state}")
    return lines


def _workflow(run: RunDirectory) -> dict[str, Any]:
    try:
        return dict(read_json(run.state))
    except FileNotFoundError:
        return {"generation": 0, "phase": "not started", "pending_tasks": 0}


def _daemon(path: Path) -> dict[str, Any] | None:
    """Return one process' heartbeat and whether the process is there."""
    record = read_heartbeat(path)
    if record is None:
        return None
    identity = heartbeat_identity(record)
    age = time.time() - datetime.fromisoformat(record["updated"]).timestamp()
    here = identity is not None and identity.is_local()
    alive = identity.alive() if identity is not None and here else age < _SILENT_S
    kept = {key: record[key] for key in ("name", "state", "pid", "host", "detail")}
    return {**kept, "alive": alive, "age": f"{max(age, 0):.0f} s"}


def _walker_lives(run: RunDirectory, walker: WalkerState) -> bool:
    """True if its process is there; its own `state.json` still says `running` after a kill."""
    beat = _daemon(run.heartbeats / f"{walker.name}.json")
    return beat is not None and bool(beat["alive"])


def _version(registry: Registry, version: str) -> dict[str, Any]:
    manifest = registry.manifest(version)
    metrics = read_json(registry.path(version) / "metrics.json")
    return {
        "version": version,
        "created": manifest.get("created"),
        "parent": manifest.get("parent"),
        "labels": len(manifest["task_ids"]),
        "new": len(manifest.get("new_task_ids", [])),
        "metrics": metrics,
        "force_rmse": metrics.get("force_rmse"),
        "energy_rmse_mev": metrics.get("energy_rmse_mev"),
    }
