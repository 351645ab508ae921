"""How a label was made, or why there is none: one task's story, in ten lines. Read-only."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.errors import AutopipeError, DataError
from mlip_autopipec.core.files import read_json
from mlip_autopipec.store.dataset import Dataset
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.refusals import read_refusals
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.reuse import REFUSED
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task

LINES: Final = 10
_SHOWN_ATTEMPTS: Final = 3
_COUNTED: Final = {"retry": "put off", "lost": "lost with its worker", "given_back": "given back"}
_NEXT: Final = {
    "failed": "autopipe queue retry {id}",
    "cancelled": "autopipe queue requeue {id}, if it is wanted after all",
    "held": "autopipe queue release {id}",
    "corrupt": "autopipe queue show {id} says what is wrong with the file",
}


def story(run: RunDirectory, task_id: str) -> dict[str, Any]:
    """Return everything that there is to tell of a task, JSON-ready; None or empty where there is nothing."""
    queue = TaskQueue(run.queue / "dft", Results(run.results), worker="why", attempts=run.attempts)
    record, trouble = _result(queue.results, task_id)
    task = _task(queue, task_id, record)
    history = queue.history.read(task_id)
    return {
        "task": task_id,
        "state": queue.state(task_id),
        "reason": queue.reason(task_id),
        "unreadable": trouble,
        "asked": task and _asked(task),
        "history": dict(Counter(str(event.get("event")) for event in history)),
        "last": history[-1] if history else None,
        "files": str(run.attempt(task_id)),
        "attempts": _attempts(run.attempt(task_id)),
        "label": record and {"info": record["info"], "worker": record["worker"], "finished": record["finished"]},
        "refused_by_trainer": _refusal(run, task_id),
        "flags": _flags(run, task_id, record),
    }


def tell(facts: dict[str, Any]) -> list[str]:
    """Return a story for people, at most `LINES` lines.

    Parameters
    ----------
    facts
        As `story` returns them.
    """
    state = facts["state"] or "forgotten: its file was removed"
    head = [f"task {facts['task']}: {state}", *_told("asked", facts["asked"]), *_of_history(facts)]
    tail = [*_of_label(facts), *_of_doubts(facts), *_of_reason(facts)]
    runs = [line for name, attempt in facts["attempts"].items() if (line := _of_attempt(name, attempt))]
    room = max(1, min(_SHOWN_ATTEMPTS, LINES - len(head) - len(tail)))
    if len(runs) > room:
        runs = [*runs[-room:]]
        runs[0] = f"{runs[0]} (and {len(facts['attempts']) - room} earlier: --json)"
    return [*head, *runs, *tail][:LINES]


def _told(name: str, what: Any) -> list[str]:
    return [f"  {name:9} {what}"] if what else []


def _asked(task: Task) -> str:
    """Return what was asked for, by whom and why."""
    species, origin = Counter(task.structure["species"]), task.origin
    atoms = "".join(f"{element}{count}" for element, count in sorted(species.items()))
    who = ", ".join(f"{key} {origin[key]}" for key in ("walker", "step", "version", "source") if key in origin)
    return f"{atoms}, {sum(task.force_mask)} of {len(task.force_mask)} atoms learned, gamma {task.priority:g}, {who}"


def _of_history(facts: dict[str, Any]) -> list[str]:
    """Return how often what happened, and what happened last."""
    counts = [f"{word} {facts['history'][event]} x" for event, word in _COUNTED.items() if facts["history"].get(event)]
    last = facts["last"]
    if last is None:
        return _told("history", "nobody has tried yet" if not facts["label"] else "")
    where = f"{last.get('event')} at {last.get('time')} by {last.get('worker')} on {last.get('host')}"
    return _told("history", "; ".join([*counts, f"last: {where}"]))


def _of_attempt(name: str, attempt: dict[str, Any]) -> str:
    """Return the runs of one attempt in one line."""
    if not attempt["rungs"]:
        return f"  {name}: refused by a window, kept as {REFUSED}" if attempt["refused"] else ""
    steps = [f"{r['rung']}: {r['end']} ({r['iterations']} iterations, {r['seconds']:g} s)" for r in attempt["rungs"]]
    if len(steps) > 4:
        steps = [steps[0], f"{len(steps) - 3} more", *steps[-2:]]
    end = "refused by a window" if attempt["refused"] else attempt["end"]
    return f"  {name}: {' -> '.join(steps)}; {end}"


def _of_label(facts: dict[str, Any]) -> list[str]:
    if not facts["label"]:
        return []
    info = facts["label"]["info"]
    if info.get("reused_from") == facts["task"]:
        made = "refused by a window at first, taken without computing it again"
    elif info.get("reused_from"):
        made = f"that of the like structure {info['reused_from']} (autopipe dft why {info['reused_from']})"
    else:
        seconds, cores = info.get("seconds", info.get("wall_s", 0.0)), info.get("cores", 1)
        made = f"{seconds:.3g} s on {cores} core(s), {facts['label']['worker']}"
    program = info.get("program") or info.get("labeller") or "unknown engine"
    settings = [f"{info['scf_iterations']} iterations"] if "scf_iterations" in info else []
    if "scf" in info:
        settings.append(f"smearing {info['scf'].get('degauss_ry')} Ry")
    if "moments" in info:
        settings.append(f"magnetization {info.get('total_magnetization', sum(info['moments'])):.3g} per cell")
    return _told("label", ", ".join([str(program), *settings, made]))


def _of_doubts(facts: dict[str, Any]) -> list[str]:
    """Return what is odd about the label, and whether the dataset took it."""
    flags = "; ".join(f"{name}: {told}" for name, told in sorted(facts["flags"].items()))
    return _told("flagged", flags) + _told("not used", facts["refused_by_trainer"])


def _of_reason(facts: dict[str, Any]) -> list[str]:
    """Return why there is no label, and what helps."""
    if facts["unreadable"]:
        return _told("result", f"cannot be read: {facts['unreadable']}")
    lines = [] if facts["label"] else _told("reason", facts["reason"])
    return lines + _told("next", _NEXT.get(facts["state"] or "", "").format(id=facts["task"]))


def _attempts(folder: Path) -> dict[str, Any]:
    """Return what each attempt left behind, by the name of its folder."""
    return {path.name: _attempt(path) for path in sorted(folder.glob("*")) if path.is_dir()}


def _attempt(folder: Path) -> dict[str, Any]:
    try:
        content = dict(read_json(folder / "rungs.json"))
    except (OSError, DataError, TypeError, ValueError):
        content = {}
    rungs = content.get("rungs")
    return {
        "rungs": rungs if isinstance(rungs, list) else [],
        "end": content.get("end", ""),
        "refused": (folder / REFUSED).exists(),
        "files": sorted(path.name for path in folder.iterdir()),
    }


def _result(results: Results, task_id: str) -> tuple[dict[str, Any] | None, str]:
    try:
        return results.read(task_id), ""
    except FileNotFoundError:
        return None, ""
    except DataError as error:
        return None, str(error)


def _task(queue: TaskQueue, task_id: str, record: dict[str, Any] | None) -> Task | None:
    try:
        if record is not None:
            return Task.from_dict(record["task"])
        path = queue.find(task_id)
        return Task.read(path) if path else None
    except (DataError, OSError):
        return None


def _refusal(run: RunDirectory, task_id: str) -> str:
    try:
        return read_refusals(run).get(task_id, "")
    except (AutopipeError, OSError) as error:
        return str(error)


def _flags(run: RunDirectory, task_id: str, record: dict[str, Any] | None) -> dict[str, str]:
    """Return the flags of the label, and those that the dataset added."""
    of_label = record["info"].get("flags", {}) if record else {}
    return {**of_label, **flagged(run).get(task_id, {})}


def flagged(run: RunDirectory) -> dict[str, dict[str, str]]:
    """Return task id -> flags of all labels in the dataset that have some."""
    try:
        return Dataset(run.dataset).flags()
    except (sqlite3.Error, OSError):
        return {}  # damaged or locked: the trainer's trouble, which `status` shows
