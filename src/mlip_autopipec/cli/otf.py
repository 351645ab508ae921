"""`autopipe otf`: start, stop, pause and revive a run, say how wrong its potential is, and produce with it."""

from __future__ import annotations

import click

from mlip_autopipec.cli.calibration import calibration
from mlip_autopipec.cli.options import dry_run_option, json_option, run_option
from mlip_autopipec.cli.produce import produce
from mlip_autopipec.store.rundir import RunDirectory


@click.group()
def otf() -> None:
    """Start, stop, pause and revive on-the-fly learning."""


@otf.command()
@run_option
@click.option("--foreground", is_flag=True, help="Stay until the run is over.")
@dry_run_option
def start(run: RunDirectory, foreground: bool, dry_run: bool) -> None:
    """Start all daemons of this host, or resume where the run stood.

    Checks the configuration first and freezes it in the run directory; a run that is at work keeps the one that it has.

    With --foreground the exit code says how the run ended: 0 done, 3 a walker gave up, 130 Ctrl-C, 75 stopped before it
    was done.
    """
    from mlip_autopipec.config import check_frozen, load
    from mlip_autopipec.daemons.preflight import preflight
    from mlip_autopipec.daemons.starting import already_running, begin, supervise
    from mlip_autopipec.daemons.supervisor import default_services

    if not dry_run and (pid := already_running(run, foreground=foreground)) is not None:
        click.echo(f"already running: supervisor, pid {pid}; autopipe.yaml is read again at the next start", err=True)
        return
    config = load(run)
    check_frozen(run, config)
    for warning in preflight(run, config):
        click.echo(f"warning: {warning}", err=True)
    if dry_run:
        for module, name in [("autopipe_services.supervisor", "supervisor"), *default_services(config)]:
            click.echo(f"would start {name} ({module})", err=True)
        return
    # The supervisor freezes what was checked here, once it knows that no other host works by an earlier one.
    if foreground:
        supervise(run)
    pid, is_new = begin(run, say=lambda text: click.echo(text, err=True))
    what = "started" if is_new else "already running:"
    click.echo(f"{what} supervisor, pid {pid}; see  autopipe status -C {run.root}", err=True)


@otf.command()
@run_option
@click.option("--timeout", type=click.FloatRange(min=0), default=60.0, show_default=True, help="s to drain; then kill.")
@dry_run_option
@json_option
def stop(run: RunDirectory, timeout: float, dry_run: bool, as_json: bool) -> None:
    """Drain everything that works for this run, on every node, and leave nothing running."""
    import json

    from mlip_autopipec.daemons.stopping import end, living

    if dry_run:
        for process in living(run):
            click.echo(f"would stop {process.name}, pid {process.identity.pid} on {process.identity.host}", err=True)
        return
    report = end(run, timeout_s=timeout)
    if as_json:
        click.echo(json.dumps({"stopped": report.stopped, "killed": report.killed, "unknown": report.unknown}))
    else:
        for word, names in (("stopped", report.stopped), ("killed", report.killed)):
            if names:
                click.echo(f"{word} {', '.join(names)}", err=True)
        if not report.stopped and not report.killed and not report.unknown:
            click.echo("nothing was running", err=True)
    if report.unknown:
        click.echo(f"no sign that they ended (on other hosts, or stuck): {', '.join(report.unknown)}", err=True)
        raise SystemExit(3)


@otf.command()
@run_option
@dry_run_option
def pause(run: RunDirectory, dry_run: bool) -> None:
    """Let the dft-workers of every node claim nothing any more, until `resume`.

    Labels in work are finished. Walkers and trainer go on with what there is; a pause outlasts stop and start.
    """
    _wish(run, "paused", dry_run, wanted=True)


@otf.command()
@run_option
@dry_run_option
def resume(run: RunDirectory, dry_run: bool) -> None:
    """Let the dft-workers claim tasks again, after `pause`."""
    _wish(run, "resumed", dry_run, wanted=False)


def _wish(run: RunDirectory, done: str, dry_run: bool, *, wanted: bool) -> None:
    from mlip_autopipec.store.control import Control

    control = Control(run.control)
    if control.wants("pause") is wanted:
        click.echo(f"already {done}" if wanted else "not paused", err=True)
        return
    if not dry_run and wanted:
        control.ask("pause", "autopipe otf pause")
    elif not dry_run:
        control.withdraw("pause")
    click.echo(f"would be {done}" if dry_run else done, err=True)


@otf.command()
@click.argument("names", nargs=-1)
@run_option
@dry_run_option
def revive(run: RunDirectory, names: tuple[str, ...], dry_run: bool) -> None:
    """Give what has given up another chance: walkers that are stuck or failed, a trainer whose fits always fail.

    NAMES are walkers (w00) or `trainer`; without any: all that gave up. A walker goes on from its last safe snapshot:
    at once, or with the next `autopipe otf start`.
    """
    from mlip_autopipec.daemons.reviving import asleep, revivable
    from mlip_autopipec.store.control import Control

    chosen = revivable(run, names)
    for name, told in chosen.items():
        if not dry_run:
            Control(run.control).ask(f"revive-{name}", "autopipe otf revive")
        click.echo(f"{'would revive' if dry_run else 'revived'} {name}, {told}", err=True)
    if not chosen:
        click.echo("nothing has given up", err=True)
    elif asleep(run):
        click.echo(f"next: autopipe otf start -C {run.root}", err=True)


otf.add_command(calibration)
otf.add_command(produce)
