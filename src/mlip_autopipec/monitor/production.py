"""What was produced, and how far it can be trusted. Read-only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.runtime.heartbeat import heartbeat_identity, read_heartbeat
from mlip_autopipec.store.production import Production, ProductionState, read_production, read_walker
from mlip_autopipec.store.rundir import TRAJECTORY, RunDirectory


def report(run: RunDirectory, damaged: list[str]) -> list[dict[str, Any]]:
    """Return every production of a run, JSON-ready; what is damaged is named in `damaged`."""
    found = []
    for folder in sorted(run.production.iterdir()) if run.production.is_dir() else []:
        try:
            production = read_production(folder)
            if production is not None:
                found.append(report_of(folder, production))
        except DataError as error:
            damaged.append(f"production {folder.name}: {error.message}: {error.hint}")
    return found


def report_of(folder: Path, production: Production) -> dict[str, Any]:
    """Return one production: version, halt level, its walkers, and in `warnings` what is to be known before its use.

    A walker's numbers are those of its last snapshot, `now` is the step of its living process.
    """
    walkers = []
    for name, plan in production.walkers.items():
        state = read_walker(folder / name) or ProductionState(name, production.version, steps=plan["steps"])
        goes_on = state.state == "done" and state.step < plan["steps"]  # more steps were asked for since
        steps = {"steps": plan["steps"], "state": "running" if goes_on else state.state}
        walkers.append(
            {**asdict(state), **steps, "trajectory": str(folder / name / TRAJECTORY), **_life(folder / name)}
        )
    return {
        "name": folder.name,
        "version": production.version,
        "sha256": production.sha256,
        "engine": production.engine,
        "halt_level": production.halt_level,
        "walkers": walkers,
        "warnings": [line for walker in walkers for line in _warnings(walker, production)],
    }


def _life(folder: Path) -> dict[str, Any]:
    record = read_heartbeat(folder / "heartbeat.json")
    identity = heartbeat_identity(record) if record else None
    if record is None or identity is None or (identity.is_local() and not identity.alive()):
        return {"alive": False, "now": None, "waiting_for": ""}
    if record["state"] in ("stopped", "failed"):
        return {"alive": False, "now": None, "waiting_for": ""}
    detail = record["detail"]
    return {"alive": True, "now": detail.get("step"), "waiting_for": detail.get("waiting_for", "")}


def _warnings(walker: dict[str, Any], production: Production) -> Iterator[str]:
    name, version = walker["name"], production.version
    if walker["above"]:
        yield (
            f"{name}: gamma above {production.halt_level:g} at {walker['above']} of {walker['looks']} looks, steps "
            f"{walker['first_above']} to {walker['last_above']} (largest {walker['gamma']:.3g} at step "
            f"{walker['gamma_step']}): {version} extrapolates there, its forces are a guess"
        )
    if walker["state"] == "failed":
        yield f"{name} failed at step {walker['step']}: {walker['reason']}"
