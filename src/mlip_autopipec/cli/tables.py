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


def _told(detail: dict[str, Any]) -> str:
    """Return a daemon's details as one line; of the supervisor's children only those that were restarted."""
    plain = {key: value for key, value in detail.items() if not isinstance(value, dict) and value not in (None, "")}
    parts = [f"{key} {value}" for key, value in plain.items()]
    for name, child in detail.get("children", {}).items():
        if child.get("restarts"):
            parts.append(f"{name} restarted {child['restarts']} times ({child['last_exit']})")
    parts += [f"{count} {state}" for state, count in detail.get("walkers", {}).items()]
    return ", ".join(parts)


def _walker_state(walker: dict[str, Any]) -> str:
    at_work = walker["state"] in ("starting", "running", "halted")
    return f"{walker['state']} (gone)" if at_work and not walker["alive"] else str(walker["state"])


def print_status(facts: dict[str, Any], trouble: list[str]) -> None:
    """Print what `monitor.status.collect` gathered."""
    workflow = facts["workflow"]
    print(f"{facts['run']}: phase {workflow['phase']}, version {facts['current'] or '-'}, labels {facts['labels']}")
    print_table(
        "daemons",
        ("name", "state", "pid", "host", "beat", "detail"),
        (
            (
                d["name"],
                d["state"] if d["alive"] or d["state"] == "stopped" else f"{d['state']} (gone)",
                d["pid"],
                d["host"],
                d["age"],
                _told(d["detail"]),
            )
            for d in facts["daemons"]
        ),
    )
    print_table(
        "walkers",
        ("name", "state", "step", "T (K)", "gamma", "version", "waits for / reason"),
        (
            (w["name"], _walker_state(w), f"{w['step']}/{w['steps']}", w["temperature"], w["gamma"], w["version"],
             w["waiting_for"] or w["reason"])
            for w in facts["walkers"]
        ),
    )  # fmt: skip
    print("queue: " + ", ".join(f"{state} {count}" for state, count in facts["queue"].items()))
    print_table(
        "versions",
        ("version", "labels", "new", "force RMSE (eV/A)", "energy RMSE (meV/atom)"),
        ((v["version"], v["labels"], v["new"], v["force_rmse"], v["energy_rmse_mev"]) for v in facts["versions"]),
    )
    for line in trouble:
        print(f"needs you: {line}")
