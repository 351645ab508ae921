"""`autopipe config`: look at the configuration."""

from __future__ import annotations

import json

import click

from mlip_autopipec.cli.options import json_option, run_option
from mlip_autopipec.store.rundir import RunDirectory


@click.group()
def config() -> None:
    """Show and check `autopipe.yaml`."""


@config.command()
@run_option
@json_option
def show(run: RunDirectory, as_json: bool) -> None:
    """Print the configuration with all defaults filled in."""
    from mlip_autopipec.config import load
    from mlip_autopipec.core.yamlfile import dump_mapping

    expanded = load(run).model_dump(mode="json")
    click.echo(json.dumps(expanded) if as_json else dump_mapping(expanded), nl=as_json)


@config.command()
@run_option
@json_option
def check(run: RunDirectory, as_json: bool) -> None:
    """Check every key, and the files, elements and programs that the run needs."""
    from mlip_autopipec.config import check_frozen, load
    from mlip_autopipec.daemons.preflight import preflight

    loaded = load(run)
    check_frozen(run, loaded)
    warnings = preflight(run, loaded)
    if as_json:
        click.echo(json.dumps({"ok": True, "warnings": warnings}))
        return
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{run.config_file}: ok")


@config.command()
@run_option
@click.option("--stdout", "to_stdout", is_flag=True, help="Print it, and write nothing.")
@json_option
def expand(run: RunDirectory, to_stdout: bool, as_json: bool) -> None:
    """Write `exec_config_dump.yaml`: every key, with a comment on each value that was inferred (from what, and why).

    `otf start` writes the same; a run that was started keeps its own, and --stdout shows what the next start would use.
    """
    from mlip_autopipec.config import expand as expanded
    from mlip_autopipec.config import load_with_reasons, write_draft

    loaded, reasons = load_with_reasons(run)
    if as_json:
        click.echo(json.dumps({"config": loaded.model_dump(mode="json"), "inferred": reasons}))
    elif to_stdout:
        click.echo(expanded(loaded, reasons), nl=False)
    else:
        write_draft(run, loaded, reasons)
        click.echo(f"wrote {run.frozen_config}: {len(reasons)} inferred values, each with its reason above it")


@config.command()
@json_option
def schema(as_json: bool) -> None:
    """List every key with its unit and default; --json gives the JSON schema."""
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from mlip_autopipec.config import Config, models_in

    if as_json:
        click.echo(json.dumps(Config.model_json_schema()))
        return

    def walk(model: type[BaseModel], indent: str) -> None:
        field: FieldInfo
        for name, field in model.model_fields.items():
            default = "" if field.is_required() else f" [{field.get_default(call_default_factory=True)!r}]"
            inner = models_in(field.annotation)
            click.echo(f"{indent}{name}:{'' if inner else default}  # {field.description or ''}".rstrip(" #"))
            for sub in inner:
                if len(inner) > 1:
                    click.echo(f"{indent}  # {(sub.__doc__ or '').splitlines()[0]}")
                walk(sub, indent + "  ")

    walk(Config, "")
