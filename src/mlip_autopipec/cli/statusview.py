"""The status of a run for people."""

from __future__ import annotations

from typing import Any, Final

from mlip_autopipec.cli.tables import print_table

_SHOWN_VERSIONS: Final = 5


def print_status(facts: dict[str, Any], trouble: list[str], *, all_versions: bool = False) -> None:
    """Print what `monitor.status.collect` gathered, and what needs a person."""
    print(
        f"{facts['run']}: {facts['activity']}, phase {_phase(facts['workflow'])}, version {_current(facts)}, "
        f"labels {facts['labels']}"
    )
    print_table("daemons", ("name", "state", "pid", "host", "beat", "detail"), map(_daemon_row, facts["daemons"]))
    print_table(
        "walkers",
        ("name", "state", "step", "T (K)", "gamma", "version", "by", "waits for / reason"),
        map(_walker_row, facts["walkers"]),
    )
    print("queue: " + ", ".join(f"{state} {count}" for state, count in facts["queue"].items()))
    for line in _labels(facts):
        print(line)
    versions = facts["versions"] if all_versions else facts["versions"][-_SHOWN_VERSIONS:]
    hidden = len(facts["versions"]) - len(versions)
    print_table(
        "versions" + (f" ({hidden} older: --all)" if hidden else ""),
        ("version", "labels", "new", "force RMSE (eV/A)", "energy RMSE (meV/atom)"),
        ((v["version"], v["labels"], v["new"], v["force_rmse"], v["energy_rmse_mev"]) for v in versions),
    )
    for production in facts["productions"]:
        print_production(production)
        for line in production["warnings"]:
            print(f"warning: {line}")
    for line in trouble:
        print(f"needs you: {line}")


def _phase(workflow: dict[str, Any]) -> str:
    """Return the phase, and of a bootstrap what it waits for."""
    waits, left = workflow.get("bootstrap"), workflow.get("trajectories", 0)
    return f"{workflow['phase']} ({waits}{f', {left} trajectories' if left else ''})" if waits else workflow["phase"]


def print_production(facts: dict[str, Any]) -> None:
    """Print one production as a table."""
    print_table(
        f"production {facts['name']}, version {facts['version']}",
        ("walker", "state", "step", "frames", "largest gamma", "at step", f"looks above {facts['halt_level']:g}"),
        (
            (
                w["name"],
                w["state"] if w["alive"] or w["state"] != "running" else "stopped",
                f"{w['step'] if w['now'] is None else w['now']}/{w['steps']}",
                w["frames"],
                w["gamma"],
                w["gamma_step"],
                f"{w['above']}/{w['looks']}",
            )
            for w in facts["walkers"]
        ),
    )


def _labels(facts: dict[str, Any]) -> list[str]:
    """Return what labels cost, and how many are kept in spite of a doubt."""
    costs, lines = facts["costs"], []
    if costs["core_s"] > 0:
        each = "" if costs["core_s_per_label"] is None else f" ({costs['core_s_per_label']:.3g} for each)"
        lines.append(
            f"cost: {costs['core_s']:.3g} core-s for {costs['labels']} labels{each}, "
            f"{costs['core_s_without_label']:.3g} of them in {costs['without_label']} attempts without one; "
            f"{costs['reused']} labels reused: autopipe dft costs"
        )
    if facts["flagged"]:
        lines.append(f"flagged: {facts['flagged']} labels are kept, but odd: autopipe dft flagged")
    return lines


def _current(facts: dict[str, Any]) -> str:
    """Return the version that walkers use, and why it is not the newest."""
    current, versions = facts["current"] or "-", [version["version"] for version in facts["versions"]]
    told = ["pinned"] if facts["pinned"] else []
    if facts["current"] and versions and current != versions[-1]:
        told.append(f"the newest is {versions[-1]}")
    return f"{current} ({', '.join(told)})" if told else str(current)


def _daemon_row(daemon: dict[str, Any]) -> tuple[Any, ...]:
    there = daemon["alive"] or daemon["state"] == "stopped"
    state = daemon["state"] if there else f"{daemon['state']} (gone)"
    return daemon["name"], state, daemon["pid"], daemon["host"], daemon["age"], _told(daemon["detail"])


def _told(detail: dict[str, Any]) -> str:
    """Return a daemon's details as one line; of the supervisor's children only those that were restarted."""
    plain = {key: value for key, value in detail.items() if not isinstance(value, dict) and value not in (None, "")}
    parts = [f"{key} {value}" for key, value in plain.items()]
    for name, child in detail.get("children", {}).items():
        if child.get("restarts"):
            parts.append(f"{name} restarted {child['restarts']} times ({child['last_exit']})")
    parts += [f"{count} {state}" for state, count in detail.get("walkers", {}).items()]
    return ", ".join(parts)


def _walker_row(walker: dict[str, Any]) -> tuple[Any, ...]:
    at_work = walker["state"] in ("starting", "running", "halted")
    state = f"{walker['state']} (gone)" if at_work and not walker["alive"] else walker["state"]
    told = walker["waiting_for"] or walker["reason"]
    if not walker["planned"]:
        told = f"otf.walkers asks for it no more; {told}".rstrip("; ")
    steps, temperature = f"{walker['step']}/{walker['steps']}", f"{walker['temperature']:g}"
    return walker["name"], state, steps, temperature, walker["gamma"], walker["version"], walker["engine"], told
