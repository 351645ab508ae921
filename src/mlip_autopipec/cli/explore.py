"""`autopipe explore`: MD with a surrogate before the first potential, and what is picked from it for labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mlip_autopipec.cli.options import dry_run_option, json_option, run_option
from mlip_autopipec.core.errors import ConfigError, NotFoundError
from mlip_autopipec.store.rundir import RunDirectory


@click.group()
def explore() -> None:
    """Explore with a surrogate, and pick the structures worth a label."""


@explore.command("run")
@run_option
@dry_run_option
def run_here(run: RunDirectory, dry_run: bool) -> None:
    """Explore in this terminal until the picks have their tasks; `autopipe otf start` does the same by itself.

    Ctrl-C drains: trajectories go on from their last checkpoint, here or in another worker.
    """
    from mlip_autopipec.cli.worker import explore_here
    from mlip_autopipec.core.clock import SystemClock
    from mlip_autopipec.daemons.seeding import publish_trajectories, trajectories_of

    config = _config(run)
    if dry_run:
        tasks = trajectories_of(run, config, SystemClock())
        for task in tasks:
            wanted = task.labeller
            where = "NVT" if wanted["pressure_bar"] is None else f"NPT {wanted['pressure_bar']:g} bar"
            click.echo(
                f"{task.id[:8]}  {task.config_type}, {len(task.force_mask)} atoms, {wanted['temperature']:g} K, {where}"
            )
        click.echo(f"{len(tasks)} trajectories of {config.explore.steps} steps", err=True)
        return
    run.create()
    new = publish_trajectories(run, config, "cli", SystemClock())
    click.echo(f"{len(new)} new trajectories", err=True)
    raise SystemExit(explore_here(run, None, ends=True))


@explore.command()
@run_option
@json_option
def status(run: RunDirectory, as_json: bool) -> None:
    """Say how far the exploration is: trajectories, frames, picks."""
    import json

    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.exploration import collect

    facts = collect(run)
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo("trajectories: " + ", ".join(f"{state} {n}" for state, n in facts["queue"].items() if n) or "none")
    columns = ("trajectory", "kind", "atoms", "T (K)", "p (bar)", "steps", "frames", "stopped because")
    keys = ("id", "kind", "atoms", "temperature", "pressure_bar", "steps", "frames", "complaint")
    print_table("explored", columns, ([line[key] for key in keys] for line in facts["explored"]))
    for speed in facts["speeds"]:
        click.echo(
            f"{speed['device']}, {speed['at_once']} at once: {speed['atom_steps_per_s']:.3g} atoms x steps per second"
        )
    for worker in facts["workers"]:
        click.echo(f"{worker['name']}: {worker['state']} {worker['detail'].get('step', '')}".rstrip())
    selection = facts["selection"]
    click.echo("picked: nothing yet" if selection is None else _told(selection))


@explore.command()
@run_option
@dry_run_option
@json_option
def select(run: RunDirectory, dry_run: bool, as_json: bool) -> None:
    """Pick from what was explored so far, and publish the label tasks; once per run.

    It happens by itself once every trajectory has ended; this is for those who do not want to wait.
    """
    import json

    from mlip_autopipec.daemons.picking import pick, preview
    from mlip_autopipec.daemons.seeding import picking_settings

    settings = picking_settings(run, _config(run), "cli")
    if dry_run:
        record = preview(settings)
        facts = {"picks": len(record.picks), "by_kind": record.by_kind(), **record.pool, "coverage": record.coverage}
    else:
        run.create()
        facts = pick(settings)
    click.echo(json.dumps(facts) if as_json else ", ".join(f"{key} {value}" for key, value in facts.items()))


@explore.command()
@run_option
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw pool and picks: .png, .pdf, .svg")
@json_option
def coverage(run: RunDirectory, plot: Path | None, as_json: bool) -> None:
    """Say how much of the explored space the picks reach, beside as many random structures."""
    import json

    from mlip_autopipec.cli.figures import require_matplotlib
    from mlip_autopipec.monitor.exploration import selection_facts

    if plot is not None:
        require_matplotlib(plot)
    facts = selection_facts(run)
    if facts is None:
        raise NotFoundError(f"{run.root}: nothing is picked yet", "autopipe explore status")
    if plot is not None:
        from mlip_autopipec.monitor.explorationplot import draw

        draw(run, plot)
        click.echo(f"wrote {plot}", err=True)
    click.echo(json.dumps(facts) if as_json else _told(facts))


def _told(facts: dict[str, Any]) -> str:
    pool, cover = facts["pool"], facts["coverage"]
    kinds = ", ".join(f"{kind} {n}" for kind, n in facts["by_kind"].items())
    text = (
        f"picked: {facts['picks']} of {pool['seeds']} seeds and {pool['frames']} frames ({kinds}); they reach "
        f"{cover['picks']:.1%} of the occupied bins of {pool['environments']} environments, as many random ones "
        f"{cover['random']:.1%}"
    )
    return f"{text}\n{facts['remark']}" if facts["remark"] else text


def _config(run: RunDirectory) -> Any:
    from mlip_autopipec.config import load_in_force

    config = load_in_force(run)
    if not config.explore.explores or config.start.dataset is None:
        raise ConfigError(
            f"{run.config_file}: explore.surrogate.kind: none: the seeds alone are labelled, nothing is explored",
            "set explore.surrogate (mace, potential, emt, lj or ase) and start.dataset",
        )
    return config
