"""`autopipe status`: what the run is doing."""

from __future__ import annotations

import json

import click

from mlip_autopipec.cli.options import json_option, run_option
from mlip_autopipec.store.rundir import RunDirectory


@click.command()
@run_option
@click.option("--all", "all_versions", is_flag=True, help="Show all versions, not only the last ones.")
@json_option
def status(run: RunDirectory, all_versions: bool, as_json: bool) -> None:
    """Show daemons, walkers and what they wait for, queue, labels, versions.

    Exit code 3 if something needs a person: a daemon that died, a stuck walker, failed tasks.
    """
    from mlip_autopipec.monitor.problems import problems
    from mlip_autopipec.monitor.status import collect

    facts = collect(run)
    trouble = problems(facts)
    if as_json:
        click.echo(json.dumps({**facts, "problems": trouble}))
    else:
        from mlip_autopipec.cli.statusview import print_status

        print_status(facts, trouble, all_versions=all_versions)
    if trouble:
        raise SystemExit(3)
