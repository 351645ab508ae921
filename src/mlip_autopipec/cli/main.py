"""The command `autopipe`: one file per group, loaded only when it is used, so that completion is instant."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from mlip_autopipec import __version__
from mlip_autopipec.cli.diskerrors import disk_errors
from mlip_autopipec.core.errors import AutopipeError

# Name of the command -> module of this package that has an attribute of the same name.
_COMMANDS = {
    "init": "init",
    "config": "config",
    "otf": "otf",
    "explore": "explore",
    "worker": "worker",
    "status": "status",
    "queue": "queue",
    "dataset": "dataset",
    "potential": "potential",
    "dft": "dft",
}


class _LazyGroup(click.Group):
    """Imports a command's module when the command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"mlip_autopipec.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            # click itself tells people on stderr.
            if _wants_json(ctx.obj):
                _tell_programs(error.format_message(), "see --help")
            raise


def _wants_json(words: Sequence[str] | None) -> bool:
    return words is not None and "--json" in words


def _tell_programs(message: str, hint: str) -> None:
    click.echo(json.dumps({"error": message, "hint": hint}))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="autopipe")
def cli() -> None:
    """Grow a machine-learning interatomic potential while molecular dynamics uses it.

    Start with `autopipe init Al2Cu`, then `autopipe otf start -C Al2Cu`.
    """


def main(args: list[str] | None = None) -> Any:
    """Run the command line; what the user can mend is one line on stderr, not a traceback."""
    words = sys.argv[1:] if args is None else args
    try:
        with disk_errors():
            return cli.main(args=args, prog_name="autopipe", obj=words)
    except AutopipeError as error:
        if _wants_json(words):
            _tell_programs(error.message, error.hint)
        click.echo(f"autopipe: {error.message}", err=True)
        if error.hint:
            click.echo(f"  hint: {error.hint}", err=True)
        sys.exit(error.exit_code)
