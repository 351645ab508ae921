"""Tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

_PIPE_WIDTH: Final = 100_000


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print one table on stdout; None is shown as a dash."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_shown(value) for value in row))
    console = Console()
    if not console.is_terminal:
        # Who reads from a pipe wants whole lines, however long.
        console.width = _PIPE_WIDTH
    console.print(table)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
