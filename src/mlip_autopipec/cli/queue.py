"""`autopipe queue`: look at task files and operate on them (everything here can also be done with `mv`)."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlip_autopipec.cli.options import dry_run_option, json_option, run_option
from mlip_autopipec.cli.queue_files import export, import_file
from mlip_autopipec.cli.queue_health import doctor, stats
from mlip_autopipec.cli.queueing import QueueGroup, change_all, open_queue, printable, resolve, unnamed_file
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.store.queue import TaskQueue

_KINDS = ("dft", "explore")
_STATES = ("pending", "delayed", "held", "running", "done", "failed", "cancelled", "corrupt")


@click.group(cls=QueueGroup)
def queue() -> None:
    """Look at labelling tasks and operate on them.

    Tasks are files that may also be moved by hand: see queue_layout.md. An ID may be cut short as long as it is unique.
    """
    from mlip_autopipec.store.guard import tighten_umask

    tighten_umask()


@queue.command("ls")
@click.option("--state", type=click.Choice(_STATES), help="Only tasks in this state.")
@click.option("--kind", type=click.Choice(_KINDS), default=_KINDS[0], show_default=True, help="Of this queue.")
@run_option
@json_option
def list_tasks(run: RunDirectory, state: str | None, kind: str, as_json: bool) -> None:
    """List tasks; pending ones in the order in which they will be claimed."""
    from mlip_autopipec.cli.tables import print_table

    rows = [
        {"state": s, "id": task_id, "gamma": gamma, "path": str(path.relative_to(run.root))}
        for s, task_id, gamma, path in open_queue(run, kind=kind).ls(state)
    ]
    if as_json:
        click.echo(json.dumps(rows))
        return
    columns = ("state", "id", "gamma", "path")
    print_table(f"{len(rows)} tasks", columns, ([_shown(row[c]) for c in columns] for row in rows))


@queue.command("show")
@click.argument("task_id", metavar="ID")
@run_option
@json_option
def show(run: RunDirectory, task_id: str, as_json: bool) -> None:
    """Show one task: where it is, what it asks for, what happened to it."""
    opened = open_queue(run)
    unnamed = unnamed_file(opened, task_id)
    facts = _facts_of_file(run, *unnamed) if unnamed else _facts(run, opened, resolve(opened, task_id))
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
    opened = open_queue(run)
    change_all(opened, task_ids, lambda task_id: opened.requeue(task_id, dry_run=dry_run))


@queue.command("retry")
@click.argument("task_ids", metavar="[ID...]", nargs=-1)
@click.option("--all-failed", is_flag=True, help="All in failed/.")
@click.option("--reason", help="With --all-failed: only those whose reason holds this text.")
@run_option
@dry_run_option
def retry(run: RunDirectory, task_ids: tuple[str, ...], all_failed: bool, reason: str | None, dry_run: bool) -> None:
    """Try failed tasks again, with fresh attempts."""
    opened = open_queue(run)
    if bool(task_ids) == all_failed:
        raise click.UsageError("name tasks, or say --all-failed")
    if reason is not None and not all_failed:
        raise click.UsageError("--reason belongs to --all-failed")
    if all_failed:
        failed = (task_id for _, task_id, _, _ in opened.ls("failed"))
        task_ids = tuple(i for i in failed if opened.state(i) and (not reason or reason in (opened.reason(i) or "")))
    change_all(opened, task_ids, lambda task_id: opened.retry(task_id, dry_run=dry_run))


@queue.command("hold")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@run_option
@dry_run_option
def hold(run: RunDirectory, task_ids: tuple[str, ...], dry_run: bool) -> None:
    """Park waiting tasks in held/ until `release`."""
    opened = open_queue(run)
    change_all(opened, task_ids, lambda task_id: opened.hold(task_id, dry_run=dry_run))


@queue.command("release")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@run_option
@dry_run_option
def release(run: RunDirectory, task_ids: tuple[str, ...], dry_run: bool) -> None:
    """Let held tasks go on."""
    opened = open_queue(run)
    change_all(opened, task_ids, lambda task_id: opened.let_go(task_id, dry_run=dry_run))


@queue.command("prioritise")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--first", "bucket", flag_value="00-first", default=True, help="Before all others.  [default]")
@click.option("--last", "bucket", flag_value="99-last", help="After all others.")
@click.option("--by-gamma", "bucket", flag_value="", help="Where its gamma puts it.")
@run_option
@dry_run_option
def prioritise(run: RunDirectory, task_ids: tuple[str, ...], bucket: str, dry_run: bool) -> None:
    """Change when waiting tasks have their turn; held and delayed ones become pending."""
    opened = open_queue(run)
    change_all(opened, task_ids, lambda task_id: opened.prioritise(task_id, bucket or None, dry_run=dry_run))


@queue.command("cancel")
@click.argument("task_ids", metavar="ID...", nargs=-1, required=True)
@run_option
@dry_run_option
def cancel(run: RunDirectory, task_ids: tuple[str, ...], dry_run: bool) -> None:
    """Cancel tasks that have no label yet; running ones are stopped."""
    opened = open_queue(run)
    change_all(opened, task_ids, lambda task_id: opened.cancel(task_id, dry_run=dry_run))


@queue.command("sweep")
@run_option
@dry_run_option
def sweep(run: RunDirectory, dry_run: bool) -> None:
    """Repair what crashes and hands left behind, as idle workers do all the time.

    Acts only on what stays unchanged for one lease (queue.lease_s), so it takes that long if there is anything to do.
    """
    from mlip_autopipec.config import load_in_force

    lease_s = load_in_force(run).queue.lease_s
    opened = open_queue(run, lease_s=lease_s)
    plan = opened.plan()
    if dry_run or not plan:
        for line in plan:
            click.echo(line)
        return
    for line in opened.sweep():
        click.echo(line)
    if plan := opened.plan():
        files = f"{len(plan)} files"
        click.echo(f"watching for {lease_s:g} s (queue.lease_s) whether anybody works on this: {files}", err=True)
        _wait(lease_s)
        for line in opened.sweep():
            click.echo(line)


def _shown(value: Any) -> Any:
    return printable(value) if isinstance(value, str) else value


def _wait(seconds: float) -> None:
    import time

    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    steps = max(1, round(seconds))
    for _ in track(range(steps), description="waiting", console=console, disable=not console.is_terminal):
        time.sleep(seconds / steps)


def _facts(run: RunDirectory, opened: TaskQueue, task_id: str) -> dict[str, Any]:
    from mlip_autopipec.core.clock import iso_time
    from mlip_autopipec.core.errors import DataError
    from mlip_autopipec.store.task import Task

    path, result, task, trouble = opened.find(task_id), opened.results.path(task_id), None, None
    looks = _looks(path) if path else {"bytes": None, "reason": None}
    try:
        task = Task.read(path).to_dict() if path else opened.results.read(task_id)["task"]
    except (DataError, OSError) as error:
        trouble = str(error)
    state = opened.state(task_id)
    return {
        "id": task_id,
        "state": state,
        "path": str(path.relative_to(run.root)) if path else None,
        "result": str(result.relative_to(run.root)) if result.exists() else None,
        "bytes": looks["bytes"],
        # Nobody writes to a task file: its last change was the rename that took it there.
        "since": iso_time(path.lstat().st_ctime) if path and state == "running" else None,
        "reason": opened.reason(task_id) or looks["reason"],
        "unreadable": trouble,
        "history": opened.history.read(task_id),
        "attempts": str(run.attempt(task_id).relative_to(run.root)),
        # Logs and whatever else the programs left behind.
        "files": [str(p.relative_to(run.root)) for p in sorted(run.attempt(task_id).glob("*/**/*")) if p.is_file()],
        "task": task,
    }


def _facts_of_file(run: RunDirectory, state: str, path: Path) -> dict[str, Any]:
    """Return what there is to say of a file that does not have a task's id in its name."""
    return {
        "id": path.name,
        "state": state,
        "path": str(path.relative_to(run.root)),
        **_looks(path),
        "history": [],
        "files": [],
        "task": None,
    }


def _looks(path: Path) -> dict[str, Any]:
    """Return the size of a file, why it was set aside, and what is wrong with it now, if anything."""
    from mlip_autopipec.core.errors import DataError
    from mlip_autopipec.core.files import read_json
    from mlip_autopipec.store.layout import reason_path
    from mlip_autopipec.store.task import Task

    looks: dict[str, Any] = {"bytes": None, "reason": None, "unreadable": None}
    with contextlib.suppress(OSError):
        looks["bytes"] = path.lstat().st_size
    with contextlib.suppress(OSError, DataError, KeyError, TypeError):
        looks["reason"] = str(read_json(reason_path(path))["reason"])
    try:
        Task.read(path)
    except (DataError, OSError) as error:
        looks["unreadable"] = str(error)
    return looks


def _lines(facts: dict[str, Any]) -> list[str]:
    """Return what `show` prints for people."""
    lines = [
        f"{key:9} {facts[key]}"
        for key in ("id", "state", "path", "bytes", "since", "result", "reason", "unreadable", "attempts")
        if facts.get(key) is not None
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
    if facts["files"]:
        lines += ["files", *(f"  {name}" for name in facts["files"])]
    return [printable(line) for line in lines]


for command in (export, import_file, doctor, stats):
    queue.add_command(command)
