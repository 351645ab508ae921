"""What the commands of `autopipe queue` share: the opened queue, and ids that may be cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlip_autopipec.store.queue import TaskQueue


def open_queue(run: RunDirectory, lease_s: float = 120.0, kind: str = "dft") -> TaskQueue:
    from mlip_autopipec.store.queue import TaskQueue
    from mlip_autopipec.store.results import Results

    return TaskQueue(run.queue / kind, Results(run.results), worker="cli", attempts=run.attempts, lease_s=lease_s)


def resolve(opened: TaskQueue, prefix: str) -> str:
    """Return the one id that begins with `prefix`."""
    from mlip_autopipec.core.errors import NotFoundError

    ids = opened.matching(prefix)
    if not ids:
        raise NotFoundError(f"no task {prefix}", "`autopipe queue ls` shows all")
    if len(ids) > 1:
        raise click.UsageError(f"{prefix} could be {', '.join(ids[:4])}{' ...' if len(ids) > 4 else ''}")
    return ids[0]


def change_all(opened: TaskQueue, prefixes: tuple[str, ...], change: Callable[[str], str]) -> None:
    # All ids first: a typing error in the last must not leave the first ones changed.
    ids = [resolve(opened, prefix) for prefix in prefixes]
    for task_id in dict.fromkeys(ids):
        click.echo(change(task_id))


def printable(text: str) -> str:
    """Return text from files without control characters: file names and reasons come from anywhere."""
    return text if text.isprintable() else ascii(text)[1:-1]
