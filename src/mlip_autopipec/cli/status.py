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

    facts = collect(run, _planned(run))
    trouble = problems(facts)
    if as_json:
        click.echo(json.dumps({**facts, "problems": trouble}))
    else:
        from mlip_autopipec.cli.statusview import print_status

        print_status(facts, trouble, all_versions=all_versions)
    if trouble:
        raise SystemExit(3)


def _planned(run: RunDirectory) -> set[str] | None:
    """Return the names of the walkers of this run, None if its configuration cannot be read just now."""
    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.core.errors import AutopipeError
    from mlip_autopipec.stages.watch import walker_plans

    try:
        return {plan.name for plan in walker_plans(load_in_force(run).otf)}
    except AutopipeError:
        return None
