"""`autopipe dft why`, `costs` and `flagged`: what became of labels, and what they took."""

from __future__ import annotations

import json

import click

from mlip_autopipec.cli.options import json_option, run_option
from mlip_autopipec.store.rundir import RunDirectory


@click.command()
@click.argument("task")
@run_option
@json_option
def why(run: RunDirectory, task: str, as_json: bool) -> None:
    """Tell in ten lines how the label of TASK (its id, or the beginning of it) was made, or why there is none."""
    from mlip_autopipec.cli.queueing import printable
    from mlip_autopipec.monitor.story import story, tell

    facts = story(run, _task_id(run, task))
    if as_json:
        click.echo(json.dumps(facts))
        return
    for line in tell(facts):
        click.echo(printable(line))


def _task_id(run: RunDirectory, prefix: str) -> str:
    """Return the one task that begins with `prefix`: in the queue, among results, or only among attempts."""
    from mlip_autopipec.cli.queueing import open_queue, resolve
    from mlip_autopipec.core.errors import NotFoundError
    from mlip_autopipec.core.structure import TASK_ID_PATTERN

    opened = open_queue(run)
    if opened.matching(prefix):
        return resolve(opened, prefix)
    folders = run.attempts.iterdir() if run.attempts.is_dir() else ()
    left = [path.name for path in folders if TASK_ID_PATTERN.fullmatch(path.name) and path.name.startswith(prefix)]
    if len(left) != 1:
        told = "several tasks begin so" if left else "no such task"
        raise NotFoundError(f"{prefix}: {told}", "`autopipe queue ls` shows tasks and their states")
    return left[0]


@click.command()
@run_option
@json_option
def costs(run: RunDirectory, as_json: bool) -> None:
    """Show core-seconds of labels: by elements and number of atoms, by rung, by end."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.costs import costs as collect

    facts = collect(run)
    if as_json:
        click.echo(json.dumps(facts))
        return
    columns = ("elements", "atoms", "attempts", "labels", "reused", "core_s", "core_s_per_label", "core_s_per_atom")
    head = tuple(column.replace("core_s", "core-s").replace("_", " ") for column in columns)
    print_table("cost of labels", head, ([size[column] for column in columns] for size in facts["sizes"]))
    if facts["rungs"]:
        rungs = ((rung["rung"], rung["runs"], rung["converged"], rung["core_s"]) for rung in facts["rungs"])
        print_table("rungs", ("rung", "runs", "converged", "core-s"), rungs)
    rows = ((end, told["attempts"], told["core_s"]) for end, told in facts["ends"].items())
    print_table("ends", ("attempt", "count", "core-s"), rows)


@click.command()
@run_option
@json_option
def flagged(run: RunDirectory, as_json: bool) -> None:
    """List labels that are kept although something is odd: surprises, changed smearing, jumps of moments."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.story import flagged as collect

    found = collect(run)
    if as_json:
        click.echo(json.dumps(found))
        return
    rows = [(task_id, name, told) for task_id, flags in sorted(found.items()) for name, told in sorted(flags.items())]
    print_table(f"{len(found)} flagged labels", ("task", "flag", "what"), rows)
