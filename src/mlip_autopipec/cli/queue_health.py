"""`autopipe queue doctor` and `stats`: is the queue well, and how is it doing?"""

from __future__ import annotations

import json

import click

from mlip_autopipec.cli.options import json_option, run_option
from mlip_autopipec.cli.queueing import open_queue, printable
from mlip_autopipec.store.rundir import RunDirectory

_UNHEALTHY = 3


@click.command("doctor")
@run_option
@json_option
def doctor(run: RunDirectory, as_json: bool) -> None:
    """Look for what is wrong, and say what mends it; exit code 3 if there is anything worse than a note."""
    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.store.checkup import examine

    lease_s = load_in_force(run).queue.lease_s
    findings = examine(open_queue(run, lease_s=lease_s), lease_s)
    if as_json:
        click.echo(json.dumps([{"level": f.level, "what": f.what, "mend": f.mend} for f in findings]))
    elif not findings:
        click.echo("nothing is wrong")
    else:
        for f in findings:
            click.echo(printable(f"{f.level:8} {f.what}"))
            if f.mend:
                click.echo(printable(f"{'':8} mend: {f.mend}"))
    if any(f.level != "note" for f in findings):
        raise SystemExit(_UNHEALTHY)


@click.command("stats")
@run_option
@json_option
def stats(run: RunDirectory, as_json: bool) -> None:
    """Count tasks by state, bucket, worker and reason of failure, and the labels of the last hour and day."""
    from mlip_autopipec.store.checkup import figures

    facts = figures(open_queue(run))
    if as_json:
        click.echo(json.dumps(facts))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            click.echo(key.replace("_", " "))
            for name, number in value.items():
                click.echo(printable(f"  {name:16} {number}"))
        else:
            click.echo(f"{key.replace('_', ' '):18} {value}")
