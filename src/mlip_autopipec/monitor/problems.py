"""What needs a person, and what the person can do. Read-only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from mlip_autopipec.monitor.status import RUNNER, SUPERVISOR, TRAINER
from mlip_autopipec.runtime.room import NO_ROOM
from mlip_autopipec.store.walkerstate import GAVE_UP

# The names that the supervisor and the systemd units give; whoever has another one was started by hand.
_OURS: Final = re.compile(f"{SUPERVISOR}|{TRAINER}|{RUNNER}|dft-worker-.*|explorer-worker-.*")
_OVER: Final = ("done", "stuck")
PRODUCER: Final = "produce-"
_CRASHES: Final = 3
_UNFINISHED: Final = ("pending", "delayed", "running")


def problems(facts: dict[str, Any]) -> list[str]:
    """Return what needs a person, one line each.

    Parameters
    ----------
    facts
        As `monitor.status.collect` returns them.
    """
    damaged = facts.get("damaged", [])
    lines = [*damaged, *_of_daemons(facts)]
    for walker in facts["walkers"]:
        if walker["state"] in GAVE_UP and walker.get("planned", True):
            name = walker["name"]
            lines.append(f"walker {name} is {walker['state']}: {walker['reason']}: autopipe otf revive {name}")
    lines += [*_of_disk(facts), *_of_productions(facts)]
    if not _workers(facts) and facts["queue"].get("pending") and facts.get("activity") == "running":
        lines.append(
            f"{facts['queue']['pending']} task(s) pending, and no dft-worker runs: autopipe worker dft, here or on "
            "another node, or a larger supervisor.dft_workers at the next start"
        )
    lines += _of_exploration(facts)
    for state in ("failed", "corrupt"):
        if facts["queue"].get(state):
            lines.append(f"{facts['queue'][state]} task(s) {state}: autopipe queue ls --state {state}")
    return lines


def _of_exploration(facts: dict[str, Any]) -> Iterator[str]:
    trajectories = facts.get("trajectories", {})
    left = {state: n for state in ("pending", "delayed", "failed") if (n := trajectories.get(state))}
    alive = [daemon["name"] for daemon in facts["daemons"] if daemon["alive"]]
    if left and facts.get("activity") == "running" and not _any_named("explore", [*alive, *_children(facts)]):
        told = ", ".join(f"{n} {state}" for state, n in left.items())
        yield f"trajectories: {told}, and no explorer-worker runs: autopipe worker explore, here or on another node"
    if trajectories.get("failed"):
        yield f"{trajectories['failed']} trajectories failed: autopipe explore status; the others are gone on with"


def _any_named(start: str, names: Iterable[str]) -> bool:
    return any(name.startswith(start) for name in names)


def _of_disk(facts: dict[str, Any]) -> list[str]:
    waiting = {walker["name"]: walker["waiting_for"] for walker in facts["walkers"] if walker.get("alive")}
    paused = {name: told for name, told in waiting.items() if str(told).startswith(NO_ROOM)}
    if not paused:
        return []
    return [f"{', '.join(paused)} paused, while labels go on: {next(iter(paused.values()))}: free some space"]


def _of_productions(facts: dict[str, Any]) -> Iterator[str]:
    for production in facts.get("productions", []):
        for walker in production["walkers"]:
            if walker["state"] == "failed":
                yield (
                    f"production {production['name']}: {walker['name']} failed: {walker['reason']}: autopipe otf "
                    f"produce --version {production['version']} tries again from its last snapshot"
                )


def _of_daemons(facts: dict[str, Any]) -> Iterator[str]:
    children = _children(facts)
    unfinished = any(facts["queue"].get(state) for state in _UNFINISHED)
    for daemon in facts["daemons"]:
        name, by_hand = daemon["name"], not _OURS.fullmatch(daemon["name"])
        if daemon["state"] == "failing":
            error = str(daemon["detail"].get("error"))
            if not any(line.split(": ")[0] in error for line in facts.get("damaged", [])):
                yield f"{name} is failing: {error}"
        elif name in children:  # the supervisor starts it again by itself
            if children[name].get("restarts", 0) >= _CRASHES and (daemon["state"] == "failed" or not daemon["alive"]):
                told = children[name].get("last_exit")
                yield f"{name} ended unasked {children[name]['restarts']} times ({told}): see logs/{name}.log"
        elif daemon["state"] == "failed":
            yield f"{name} failed: see {'what it wrote where it was started' if by_hand else f'logs/{name}.log'}"
        elif not daemon["alive"] and daemon["state"] != "stopped":
            gone = f"{name} is gone without a goodbye (pid {daemon['pid']} on {daemon.get('host', 'this host')})"
            if name.startswith(PRODUCER):
                yield f"{gone}: autopipe otf produce --version {name.removeprefix(PRODUCER)} goes on"
                continue
            if by_hand and unfinished:
                yield f"{gone}: its task goes back by itself; for another worker: autopipe worker dft"
            elif not by_hand and facts["workflow"]["phase"] not in _OVER:
                yield f"{gone}: autopipe otf start"


def _children(facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a living supervisor says of the processes that it started."""
    for daemon in facts["daemons"]:
        if daemon["name"] == SUPERVISOR and daemon["alive"] and daemon["state"] != "failed":
            return dict(daemon["detail"].get("children", {}))
    return {}


def _workers(facts: dict[str, Any]) -> bool:
    """True if somebody labels, or is just being started to."""
    names = {daemon["name"] for daemon in facts["daemons"] if daemon["alive"] and _labels(daemon)}
    return bool(names) or any(name.startswith("dft-worker") for name in _children(facts))


def _labels(daemon: dict[str, Any]) -> bool:
    return "labelled" in daemon["detail"] or daemon["name"].startswith("dft")
