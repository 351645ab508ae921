"""`autopipe otf produce`: the walkers once more with a frozen version."""

from __future__ import annotations

import json

import click

from mlip_autopipec.cli.options import dry_run_option, json_option, run_option
from mlip_autopipec.store.rundir import RunDirectory


@click.command()
@click.option("--version", help="Potential version, e.g. v0007.  [default: the current one]")
@click.option("--steps", type=click.IntRange(min=1), help="MD steps of each walker.  [default: its own]")
@click.option("--walker", "names", multiple=True, metavar="wNN", help="Only this walker; may be repeated.")
@run_option
@dry_run_option
@json_option
def produce(
    run: RunDirectory, version: str | None, steps: int | None, names: tuple[str, ...], dry_run: bool, as_json: bool
) -> None:
    """Run the walkers again from their start, with one version: no halts, no training.

    For observables: those of a learning run mix versions and were rewound wherever gamma was high. Frames with gamma
    go to production/VERSION/wNN/trajectory.extxyz.gz; where gamma exceeds the halt level, a warning says so.

    Ctrl-C or SIGTERM saves every walker; the same command goes on, also after a kill, or with more --steps. Exit code:
    0 all steps made, 3 a walker failed, 75 or 130 stopped before the end.
    """
    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.daemons.producing import produce as run_production
    from mlip_autopipec.daemons.production import order
    from mlip_autopipec.monitor.production import report_of

    config = load_in_force(run)
    wanted = order(run, config, version, names, steps)
    if version is None and (phase := _phase(run)) not in ("done", "stuck"):
        click.echo(f"warning: the run is in phase {phase}: {wanted.production.version} may not be its last", err=True)
    facts = report_of(wanted.folder, wanted.production)
    if dry_run:
        for walker in facts["walkers"]:
            if walker["name"] in {plan.name for plan in wanted.plans}:
                click.echo(
                    f"would run {walker['name']} with {facts['version']} from step {walker['step']} to "
                    f"{walker['steps']}, frames in {walker['trajectory']}",
                    err=True,
                )
        code = 0
    else:
        code = run_production(run, config, wanted, lambda text: click.echo(text, err=True))
        facts = report_of(wanted.folder, wanted.production)
        for line in facts["warnings"]:
            click.echo(f"warning: {line}", err=True)
    if as_json:
        click.echo(json.dumps(facts))
    elif not dry_run:
        from mlip_autopipec.cli.statusview import print_production

        print_production(facts)
    raise SystemExit(code)


def _phase(run: RunDirectory) -> str:
    from mlip_autopipec.core.errors import DataError
    from mlip_autopipec.store.state import WorkflowState

    try:
        state = WorkflowState.read(run.state)
    except DataError:
        return "unknown"
    return state.phase if state is not None else "not started"
