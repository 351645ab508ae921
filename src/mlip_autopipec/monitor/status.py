"""What a run is doing right now, gathered from its files. Read-only."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.errors import AutopipeError, DataError, ModelError
from mlip_autopipec.core.files import read_json
from mlip_autopipec.monitor.costs import costs
from mlip_autopipec.monitor.production import report
from mlip_autopipec.runtime.heartbeat import heartbeat_identity, read_heartbeat
from mlip_autopipec.store.exploration import SelectionRecord, explored_results
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import WalkerState, read_state

# A daemon beats once a second; one on another host is judged by this age only, and only shown, never acted upon.
_SILENT_S: Final = 60.0
SUPERVISOR, TRAINER, RUNNER = "supervisor", "trainer-worker", "otf-runner"


def collect(run: RunDirectory, planned: Collection[str] | None = None) -> dict[str, Any]:
    """Return everything that `autopipe status` shows, JSON-ready; what is damaged is named in `damaged`.

    Parameters
    ----------
    planned
        Names of the walkers that the configuration asks for; None: all that ever walked. Others are shown as such.
    """
    damaged: list[str] = []
    registry = Registry(run.potentials)
    walkers = _walkers(run, damaged)
    for walker in walkers:
        walker["planned"] = planned is None or walker["name"] in planned
    names = {walker["name"] for walker in walkers}
    daemons = [found for path in sorted(run.heartbeats.glob("*.json")) if (found := _daemon(path)) is not None]
    daemons = [daemon for daemon in daemons if daemon["name"] not in names]
    return {
        "run": str(run.root),
        "activity": _activity(daemons),
        "workflow": _workflow(run, damaged),
        **_current(registry, damaged),
        "labels": _labels(run, registry, daemons),
        "flagged": max((int(d["detail"].get("flagged", 0)) for d in daemons if d["name"] == TRAINER), default=0),
        "costs": costs(run),
        "daemons": daemons,
        "walkers": walkers,
        "queue": TaskQueue(run.queue / "dft", Results(run.results), worker="status", attempts=run.attempts).counts(),
        "trajectories": _trajectories(run, damaged),
        "productions": report(run, damaged),
        "versions": [_version(registry, version, damaged) for version in registry.versions()],
        "damaged": damaged,
    }


def _activity(daemons: list[dict[str, Any]]) -> str:
    """Return whether the loop turns: `running`, `draining`, or `stopped`, whatever workers by hand do."""
    alive = {daemon["name"]: daemon["state"] for daemon in daemons if daemon["alive"]}
    loop = [alive[name] for name in (SUPERVISOR, TRAINER, RUNNER) if name in alive]
    if not loop:
        return "stopped"
    return "draining" if "draining" in loop else "running"


def _workflow(run: RunDirectory, damaged: list[str]) -> dict[str, Any]:
    try:
        return dict(read_json(run.state))
    except FileNotFoundError:
        return {"generation": 0, "phase": "not started", "pending_tasks": 0}
    except (DataError, TypeError, ValueError):
        damaged.append(f"{run.state} is damaged: remove it, the supervisor writes it again")
        return {"generation": 0, "phase": "unknown", "pending_tasks": 0}


def _trajectories(run: RunDirectory, damaged: list[str]) -> dict[str, int]:
    """Count the trajectories by state; none once what they are for is picked."""
    try:
        picked = SelectionRecord.read(run)
    except DataError as error:
        damaged.append(str(error))
        return {}
    if not (run.queue / "explore").is_dir() or (picked is not None and picked.published):
        return {}
    return TaskQueue(run.queue / "explore", explored_results(run), worker="status", attempts=run.attempts).counts()


def _current(registry: Registry, damaged: list[str]) -> dict[str, Any]:
    """Return which version walkers use, and whether the user wants no newer one."""
    try:
        current = registry.current()
    except ModelError as error:
        damaged.append(f"{error.message}: {error.hint}")
        return {"current": None, "pinned": registry.is_pinned()}
    return {"current": current and current.version, "pinned": current is not None and current.pinned}


def _labels(run: RunDirectory, registry: Registry, daemons: list[dict[str, Any]]) -> int:
    """Count the labels: results, and those that came with `start.dataset`, which only versions and the trainer know."""
    known = set(Results(run.results).ids())
    for version in registry.versions()[-1:]:
        known.update(registry.labels(version))
    told = [int(daemon["detail"].get("labels", 0)) for daemon in daemons if daemon["name"] == TRAINER]
    return max([len(known), *told])


def _walkers(run: RunDirectory, damaged: list[str]) -> list[dict[str, Any]]:
    found = []
    for folder in sorted(run.walkers.iterdir()) if run.walkers.is_dir() else []:
        try:
            walker = read_state(folder) if folder.is_dir() else None
        except DataError as error:
            damaged.append(f"walker {folder.name}: {error.message}: {error.hint}")
            continue
        if walker is not None:
            found.append({**asdict(walker), "alive": _walker_lives(run, walker)})
    return found


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


def _version(registry: Registry, version: str, damaged: list[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"version": version}
    try:
        manifest = registry.manifest(version)
        metrics = read_json(registry.path(version) / "metrics.json")
        return facts | {
            "created": manifest.get("created"),
            "parent": manifest.get("parent"),
            "labels": len(manifest["task_ids"]),
            "new": len(manifest.get("new_task_ids", [])),
            "candidate": registry.candidate(version),
            "metrics": metrics,
            "force_rmse": metrics.get("force_rmse"),
            "energy_rmse_mev": metrics.get("energy_rmse_mev"),
        }
    except (AutopipeError, OSError, KeyError, TypeError, AttributeError) as error:
        damaged.append(f"{version} is damaged: {error}; a running trainer sets it aside once it is current")
        return facts | dict.fromkeys(
            ("created", "parent", "labels", "new", "candidate", "metrics", "force_rmse", "energy_rmse_mev")
        )
