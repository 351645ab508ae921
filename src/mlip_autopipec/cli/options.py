"""Options that several commands share, defined once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


def run_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-C/--run DIR`: hands the command `run`, a `RunDirectory` that exists."""

    @click.option(
        "-C",
        "--run",
        "run_folder",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("."),
        show_default="this folder",
        help="Run directory.",
    )
    @functools.wraps(command)
    def wrapper(*args: Any, run_folder: Path, **kwargs: Any) -> Any:
        from mlip_autopipec.store.rundir import RunDirectory

        return command(*args, run=RunDirectory(run_folder).require(), **kwargs)

    return wrapper


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON value on stdout.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
