"""`autopipe queue`: look at task files and operate on them (everything here can also be done with `mv`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mlip_autopipec.cli.options import dry_run_option, json_option, run_option
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlip_autopipec.store.queue import TaskQueue

_STATES = ("pending", "delayed", "held", "running", "done", "failed", "cancelled", "corrupt")


@click.group()
def queue() -> None:
    """Look at labelling tasks and operate on them.

    Tasks are files that may also be moved by hand: see queue_layout.md. An ID may be cut short as long as it is unique.
    """


@queue.command("ls")
@click.option("--state", type=click.Choice(_STATES), help="Only tasks in this state.")
@run_option
@json_option
def list_tasks(run: RunDirectory, state: str | None, as_json: bool) -> None:
    """List tasks; pending ones in the order in which they will be claimed."""
    from mlip_autopipec.cli.tables import print_table

    rows = [
        {"state": s, "id": task_id, "gamma": gamma, "path": str(path.relative_to(run.root))}
        for s, task_id, gamma, path in _open(run).ls(state)
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    columns = ("state", "id", "gamma", "path")
    print_table(f"{len(rows)} tasks", columns, ([row[c] for c in columns] for row in rows))


@queue.command("show")
@click.argument("task_id", metavar="ID")
@run_option
@json_option
def show(run: RunDirectory, task_id: str, as_json: bool) -> None:
    """Show one task: where it is, what it asks for, what happened to it."""
    opened = _open(run)
    facts = _facts(run, opened, _resolve(opened, task_id))
    if as_json:
        click.echo(json.dumps(facts))
        return
    for line in _lines(facts):
        click.echo(line)


@queue.command("requeue")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@run_option
@dry_run_option
def requeue(run: RunDirectory, task_ids: tuple[str, ...], dry_run: bool) -> None:
    """Make tasks pending again with fresh attempts.

    A done task is labelled anew; its present result goes to results/superseded/.
    """
    opened = _open(run)
    _change(opened, task_ids, lambda task_id: opened.requeue(task_id, dry_run=dry_run))


@queue.command("cancel")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@run_option
@dry_run_option
def cancel(run: RunDirectory, task_ids: tuple[str, ...], dry_run: bool) -> None:
    """Cancel tasks that have no label yet; running ones are stopped."""
    opened = _open(run)
    _change(opened, task_ids, lambda task_id: opened.cancel(task_id, dry_run=dry_run))


@queue.command("sweep")
@run_option
@dry_run_option
def sweep(run: RunDirectory, dry_run: bool) -> None:
    """Repair what crashes and hands left behind, as idle workers do all the time.

    Acts only on what stays unchanged for one lease (queue.lease_s), so it takes that long if there is anything to do.
    """
    from mlip_autopipec.config import load

    lease_s = load(run).queue.lease_s
    opened = _open(run, lease_s=lease_s)
    plan = opened.plan()
    if dry_run or not plan:
        for line in plan:
            click.echo(line)
        return
    did = opened.sweep()
    click.echo(f"watching for {lease_s:g} s (queue.lease_s) whether anybody works on this: {len(plan)} files", err=True)
    _wait(lease_s)
    for line in [*did, *opened.sweep()]:
        click.echo(line)


def _open(run: RunDirectory, lease_s: float = 120.0) -> TaskQueue:
    from mlip_autopipec.store.queue import TaskQueue
    from mlip_autopipec.store.results import Results

    return TaskQueue(run.queue / "dft", Results(run.results), worker="cli", attempts=run.attempts, lease_s=lease_s)


def _wait(seconds: float) -> None:
    import time

    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    steps = max(1, round(seconds))
    for _ in track(range(steps), description="waiting", console=console, disable=not console.is_terminal):
        time.sleep(seconds / steps)


def _resolve(opened: TaskQueue, prefix: str) -> str:
    """Return the one id that begins with `prefix`."""
    from mlip_autopipec.core.errors import NotFoundError

    ids = opened.matching(prefix)
    if not ids:
        raise NotFoundError(f"no task {prefix}", "`autopipe queue ls` shows all")
    if len(ids) > 1:
        raise click.UsageError(f"{prefix} could be {', '.join(ids[:4])}{' ...' if len(ids) > 4 else ''}")
    return ids[0]


def _change(opened: TaskQueue, prefixes: tuple[str, ...], change: Callable[[str], str]) -> None:
    # All ids first: a typing error in the last must not leave the first ones changed.
    ids = [_resolve(opened, prefix) for prefix in prefixes]
    for task_id in dict.fromkeys(ids):
        click.echo(change(task_id))


def _facts(run: RunDirectory, opened: TaskQueue, task_id: str) -> dict[str, Any]:
    from mlip_autopipec.core.errors import DataError
    from mlip_autopipec.store.task import Task

    path, result, task, trouble = opened.find(task_id), opened.results.path(task_id), None, None
    try:
        task = Task.read(path).to_dict() if path else opened.results.read(task_id)["task"]
    except (DataError, OSError) as error:
        trouble = str(error)
    return {
        "id": task_id,
        "state": opened.state(task_id),
        "path": str(path.relative_to(run.root)) if path else None,
        "result": str(result.relative_to(run.root)) if result.exists() else None,
        "reason": opened.reason(task_id),
        "unreadable": trouble,
        "history": opened.history.read(task_id),
        "attempts": str(run.attempt(task_id).relative_to(run.root)),
        "task": task,
    }


def _lines(facts: dict[str, Any]) -> list[str]:
    """Return what `show` prints for people."""
    lines = [
        f"{key:9} {facts[key]}"
        for key in ("id", "state", "path", "result", "reason", "unreadable", "attempts")
        if facts[key]
    ]
    if facts["task"]:
        task = facts["task"]
        species = task["structure"]["species"]
        numbers = ", ".join(f"{species.count(s)} {s}" for s in sorted(set(species)))
        lines += [
            f"gamma     {task['priority']:g}",
            f"created   {task['created']}  ({task['config_type']})",
            f"origin    {json.dumps(task['origin'])}",
            f"labeller  {json.dumps(task['labeller'])}",
            f"structure {len(species)} atoms ({numbers}), {sum(task['force_mask'])} learned",
        ]
    if facts["history"]:
        lines.append("history")
    for event in facts["history"]:
        more = ", ".join(
            f"{key} {value}"
            for key, value in event.items()
            if key not in ("time", "event", "worker", "host", "pid", "reason")
        )
        where = f"{event.get('worker')} on {event.get('host')} ({event.get('pid')})"
        parts = [f"  {event.get('time')}  {event.get('event'):10} {where}", more, event.get("reason")]
        lines.append("  ".join(str(part) for part in parts if part))
    return [ascii(line)[1:-1] if not line.isprintable() else line for line in lines]
