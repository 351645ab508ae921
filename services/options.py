"""The two options that every service has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def service_options(default_name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command `folder` (`-C/--run`) and `name` (`--name`)."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--name", default=default_name, show_default=True, help="Name of this process, unique in the run."
        )(command)
        return click.option(
            "-C",
            "--run",
            "folder",
            type=click.Path(path_type=Path, file_okay=False),
            default=Path("."),
            show_default="this folder",
            help="Run directory.",
        )(command)

    return decorate
