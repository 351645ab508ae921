"""`autopipe potential show|diff|why|promote|rollback`: what versions are made of, and which one walkers use."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from mlip_autopipec.cli.options import dry_run_option, json_option, run_option
from mlip_autopipec.core.errors import NotFoundError
from mlip_autopipec.store.rundir import RunDirectory

if TYPE_CHECKING:
    from mlip_autopipec.store.registry import Registry


@click.command()
@click.argument("version")
@run_option
@json_option
def show(run: RunDirectory, version: str, as_json: bool) -> None:
    """Show what a VERSION is made of, its errors, and what the gate said."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.versions import facts_of

    facts = facts_of(_registry(run), version)
    if as_json:
        click.echo(json.dumps(facts))
        return
    used = ", current" if facts["current"] else ""
    click.echo(
        f"{version}{used}{', pinned' if facts['pinned'] else ''}, made {facts['created']} from {facts['parent']}"
    )
    click.echo(f"{facts['labels']} labels, {facts['new']} of them new; active set {_listed(facts['active_set'])}")
    for reason in facts["candidate"]:
        click.echo(f"a candidate only: {reason}")
    columns = ("group", "structures", "learned_atoms", "force_rmse", "force_mae", "energy_rmse_mev", "energy_mae_mev")
    print_table("training errors (eV/A, meV/atom)", columns, ([row[c] for c in columns] for row in facts["errors"]))
    words = {True: "passed", False: "FAILED", None: "-"}
    print_table(
        "gate", ("check", "", "what it said"), ((c["name"], words[c["passed"]], c["told"]) for c in facts["gate"])
    )


@click.command()
@click.argument("first")
@click.argument("second")
@run_option
@json_option
def diff(run: RunDirectory, first: str, second: str, as_json: bool) -> None:
    """Show in what version SECOND differs from FIRST: labels, settings, errors."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.versions import difference

    found = difference(_registry(run), first, second)
    if as_json:
        click.echo(json.dumps(found))
        return
    click.echo(f"only {second}: {len(found['added'])} label(s) {_some(found['added'])}".rstrip())
    click.echo(f"only {first}: {len(found['removed'])} label(s) {_some(found['removed'])}".rstrip())
    if found["relabelled"]:
        click.echo(f"labelled again: {_some(found['relabelled'])}")
    print_table("settings", ("key", first, second), ((key, *values) for key, values in found["settings"].items()))
    print_table(
        "training errors (eV/A, meV/atom)", ("group", "error", first, second),
        ((e["group"], e["error"], e["first"], e["second"]) for e in found["errors"]),
    )  # fmt: skip


@click.command()
@click.argument("version")
@run_option
@json_option
def why(run: RunDirectory, version: str, as_json: bool) -> None:
    """Show which labels made VERSION and those before it: who asked for them, and when."""
    from mlip_autopipec.cli.tables import print_table
    from mlip_autopipec.monitor.versions import lineage

    steps = lineage(run, _registry(run), version)
    if as_json:
        click.echo(json.dumps(steps))
        return
    columns = ("label", "kind", "walker", "step", "gamma", "asked_by", "learned", "atoms")
    for step in steps:
        told = f"{step['version']} from {step['parent'] or 'nothing'}: {step['labels']} labels, {len(step['new'])} new"
        print_table(told, columns, ([label[c] for c in columns] for label in step["new"]))


@click.command()
@click.argument("version")
@run_option
@dry_run_option
def promote(run: RunDirectory, version: str, dry_run: bool) -> None:
    """Let walkers use VERSION, a candidate say; newer versions follow as usual."""
    _use(run, version, pinned=False, dry_run=dry_run)


@click.command()
@click.argument("version", required=False)
@run_option
@dry_run_option
def rollback(run: RunDirectory, version: str | None, dry_run: bool) -> None:
    """Let walkers go back to VERSION and stay with it (default: the parent of the one that they use).

    Newer versions are still made, but not used until `autopipe potential promote` names one.
    """
    if version is None:
        registry = _registry(run)
        current = registry.current()
        version = registry.manifest(current.version).get("parent") if current is not None else None
        while version is not None and registry.candidate(version):  # walkers never used it
            version = registry.manifest(version).get("parent")
        if version is None:
            raise NotFoundError("there is no version to go back to", "`autopipe potential list` shows all")
    _use(run, version, pinned=True, dry_run=dry_run)


def _use(run: RunDirectory, version: str, *, pinned: bool, dry_run: bool) -> None:
    from mlip_autopipec.config import load_in_force
    from mlip_autopipec.daemons.pinning import ask

    known = _registry(run).versions()
    if version not in known:
        raise NotFoundError(f"{version}: no such version", f"there are: {', '.join(known) or 'none'}")
    what = f"{version} is current{' and pinned' if pinned else ''}"
    if dry_run:
        click.echo(f"would be: {what}", err=True)
    elif ask(run, version, pinned=pinned, lease_s=load_in_force(run).queue.lease_s):
        click.echo(what, err=True)
    else:
        click.echo(f"asked: {what} as soon as the trainer sees to it, within seconds", err=True)


def _registry(run: RunDirectory) -> Registry:
    from mlip_autopipec.store.registry import Registry

    return Registry(run.potentials)


def _listed(table: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in table.items()) or "unknown"


def _some(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (", …" if len(ids) > 5 else "")
