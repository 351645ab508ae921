"""What the commands of `autopipe queue` share: the opened queue, and ids that may be cut short."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mlip_autopipec.core.errors import AutopipeError, DataError, QueueError
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mlip_autopipec.store.queue import TaskQueue


_USAGE = 2


class QueueGroup(click.Group):
    """Commands whose errors are the caller's: a task in another state, a file that is none."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (QueueError, DataError) as error:
            if error.exit_code == AutopipeError.exit_code:
                error.exit_code = _USAGE
            raise


def open_queue(run: RunDirectory, lease_s: float = 120.0, kind: str = "dft") -> TaskQueue:
    from mlip_autopipec.store.exploration import explored_results
    from mlip_autopipec.store.queue import TaskQueue
    from mlip_autopipec.store.results import Results

    results = explored_results(run) if kind == "explore" else Results(run.results)
    return TaskQueue(run.queue / kind, results, worker="cli", attempts=run.attempts, lease_s=lease_s)


def resolve(opened: TaskQueue, prefix: str) -> str:
    """Return the one id that begins with `prefix`."""
    from mlip_autopipec.core.errors import NotFoundError

    ids = opened.matching(prefix)
    if not ids:
        raise NotFoundError(f"no task {prefix}", "`autopipe queue ls` shows all")
    if len(ids) > 1:
        raise click.UsageError(f"{prefix} could be {', '.join(ids[:4])}{' ...' if len(ids) > 4 else ''}")
    return ids[0]


def unnamed_file(opened: TaskQueue, prefix: str) -> tuple[str, Path] | None:
    """Return (state, path) of the one file whose name holds no id and begins with `prefix`; None if an id does."""
    from mlip_autopipec.store.layout import id_in_name

    if opened.matching(prefix):
        return None
    files = [(s, p) for s, _, _, p in opened.ls() if id_in_name(p.name) is None]
    found = [f for f in files if prefix in (f[1].name, printable(f[1].name))]
    found = found or [f for f in files if printable(f[1].name).startswith(prefix)]
    if len(found) > 1:
        raise click.UsageError(f"{prefix} could be {', '.join(printable(str(p)) for _, p in found[:4])}")
    return found[0] if found else None


def change_all(opened: TaskQueue, prefixes: tuple[str, ...], change: Callable[[str], str]) -> None:
    # All ids first: a typing error in the last must not leave the first ones changed.
    ids = [resolve(opened, prefix) for prefix in prefixes]
    for task_id in dict.fromkeys(ids):
        click.echo(change(task_id))


def printable(text: str) -> str:
    """Return text from files without control characters: file names and reasons come from anywhere."""
    return text if text.isprintable() else ascii(text)[1:-1]
