"""Melt-quench of aluminium (EMT) by two walkers, left alone: how it ended, and what `autopipe status` said."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import ase.io
import click
from ase.build import bulk

from mlip_autopipec.cli.examples import strained_and_rattled
from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.core.events import read_events
from mlip_autopipec.core.files import write_text
from mlip_autopipec.core.yamlfile import dump_mapping
from mlip_autopipec.store.rundir import RunDirectory

sys.path.insert(0, str(Path(__file__).parent / "meltquench"))

from watching import Judge, Load, Look, look

AUTOPIPE = Path(sys.executable).with_name("autopipe")
LOOK_EVERY_S = 5.0
TIMESTEP_FS = 2.0
# K of melt and of the quenched solid, by walker; the heating is fast, and a crystal without a surface superheats.
WALKERS = {"w00": (1800, 300), "w01": (2200, 500)}
# Shares of the steps: heat, melt, quench, rest.
SHARES = (0.15, 0.25, 0.45, 0.15)
# A step of an atom with gamma takes about 2.5 us; half of the machine is for labels, fits and waiting.
STEPS_PER_ATOM_AND_S = 0.5 / 2.5e-6


def configuration(steps: int, threshold: float) -> dict[str, Any]:
    parts = [max(1, round(share * steps)) for share in SHARES]

    def schedule(hot: float, cold: float) -> dict[str, Any]:
        temperatures = ([300, hot], hot, [hot, cold], cold)
        return {"segments": [{"steps": n, "temperature": t} for n, t in zip(parts, temperatures, strict=True)]}

    return {
        "start": {"structure": "start/structure.extxyz", "dataset": "start/dataset.extxyz"},
        "labeller": {"engine": "teacher", "model": "emt"},
        "otf": {
            "ensemble": "nvt", "timestep": TIMESTEP_FS, "uncertainty_threshold": threshold,
            "walkers": [{"schedule": schedule(*temperatures)} for temperatures in WALKERS.values()],
        },
        "training": {"min_initial_labels": 24},
    }  # fmt: skip


def write_run(root: Path, atoms: int, steps: int, threshold: float) -> RunDirectory:
    """Write what a user would write: `autopipe.yaml` and two structure files."""
    run = RunDirectory(root)
    run.start.mkdir(parents=True)
    repeats = max(2, round((atoms / 4) ** (1 / 3)))
    lattice = bulk("Al", "fcc", a=4.08, cubic=True)
    ase.io.write(run.start / "structure.extxyz", lattice.repeat(repeats))
    seeds = strained_and_rattled(lattice.repeat(2), 24, rattle=(0.02, 0.16), strain=0.03, seed=1)
    ase.io.write(run.start / "dataset.extxyz", seeds)
    write_text(run.config_file, dump_mapping(configuration(steps, threshold)))
    return run


def attend(run: RunDirectory, minutes: float) -> tuple[list[Look], list[list[str]], dict[str, float]]:
    """Start the run, look at it until its walkers have ended or time is up, stop it; never touch it in between."""
    begin = time.monotonic()
    subprocess.run([AUTOPIPE, "otf", "start", "-C", run.root], check=True)
    judge, looks, complaints = Judge(tuple(WALKERS)), [], []
    load = Load(json.loads((run.heartbeats / "supervisor.json").read_text())["pid"])
    while True:
        looks.append(look(AUTOPIPE, run.root, begin))
        complaints.append(judge.complaints(looks[-1]))
        load.look()
        tell(looks[-1], complaints[-1])
        if (looks[-1].facts or {}).get("workflow", {}).get("phase") in ("done", "stuck"):
            break
        if time.monotonic() - begin > 60 * minutes:
            break
        time.sleep(max(0.0, LOOK_EVERY_S - looks[-1].took))
    shares = load.shares()
    subprocess.run([AUTOPIPE, "otf", "stop", "-C", run.root], check=True)
    return looks, complaints, shares


def tell(seen: Look, complaints: list[str]) -> None:
    """Show one answer in one line on stderr."""
    walkers = [
        "{name} {state} {step}/{steps} {gamma} {version} {waiting_for:.60}".format(**walker)
        for walker in (seen.facts or {}).get("walkers", [])
    ]
    print(f"{seen.at:6.0f} s  {'; '.join(walkers)}", *(f"  ! {text}" for text in complaints), sep="\n", file=sys.stderr)


def walkers_of(looks: list[Look]) -> Iterator[tuple[str, list[tuple[float, dict[str, Any]]]]]:
    """Yield name and (s, what was said) of every walker."""
    for name in WALKERS:
        told = [(s.at, w) for s in looks if s.facts for w in s.facts["walkers"] if w["name"] == name]
        if told:
            yield name, told


def summary(run: RunDirectory, looks: list[Look]) -> list[dict[str, Any]]:
    """Return one row per walker."""
    rows = []
    for name, told in walkers_of(looks):
        last = told[-1][1]
        events = read_events(run.events / f"{name}.jsonl")
        halts = [e for e in events if e["event"] == "gamma_exceeded"]
        # What was looked at after the last halt was below the level, else it had halted again.
        after = [w["gamma"] for _, w in told if w["gamma"] and w["step"] > max((e["step"] for e in halts), default=-1)]
        still = sum(b - a for (a, w), (b, _) in pairwise(told) if w["state"] == "halted")
        kinds = {kind: sum(e["event"] == kind for e in events) for kind in ("swapped", "reseeded", "rewound")}
        rows.append({
            "walker": name, "state": last["state"], "reason": last["reason"], "steps": last["step"],
            "of": last["steps"], "ns": last["step"] * TIMESTEP_FS * 1e-6, "halts": len(halts), **kinds,
            "halted_s": still, "extractions": last["extractions"],
            "last_halt": max((e["step"] for e in halts), default=None),
            "max_gamma": max((e["gamma"] for e in halts), default=max(after, default=None)),
            "gamma_since_last_halt": max(after, default=None), "gamma_at_end": last["gamma"],
        })  # fmt: skip
    return rows


def course(looks: list[Look], parts: int = 10) -> list[tuple[Any, ...]]:
    """Return what was said at evenly spaced times."""
    rows = []
    for k in range(parts + 1):
        seen = looks[min(len(looks) - 1, k * len(looks) // parts)]
        if seen.facts is None:
            continue
        row: list[Any] = [seen.at, seen.facts["workflow"]["phase"], seen.facts["current"], seen.facts["labels"]]
        for walker in seen.facts["walkers"]:
            row += [walker["state"], walker["step"], walker["temperature"], walker["gamma"]]
        rows.append(tuple(row))
    return rows


def silences(looks: list[Look], complaints: list[list[str]]) -> list[tuple[float, float, str]]:
    """Return (begin, s, what) of every stretch in which an answer made no sense."""
    found: list[tuple[float, float, str]] = []
    for seen, text in zip(looks, complaints, strict=True):
        if text:
            found.append((seen.at, seen.took, "; ".join(text)))
    return found


def show(result: dict[str, Any], looks: list[Look]) -> None:
    rows = result["walkers"]
    print_table("walkers", tuple(rows[0]), (tuple(row.values()) for row in rows))
    names = [f"{name} {what}" for name in WALKERS for what in ("", "step", "K", "gamma")]
    wide = [row for row in course(looks) if len(row) == 4 + len(names)]
    print_table("what status said", ("s", "phase", "version", "labels", *names), wide)
    print_table("CPUs in use, on average", tuple(result["cpu"]), [tuple(result["cpu"].values())])
    print_table("answers that made no sense", ("s", "took s", "what"), result["no_sense"])
    print_table("the whole", tuple(result["whole"]), [tuple(result["whole"].values())])


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--minutes", default=30.0, show_default=True, help="Longest time; then the run is stopped, unfinished.")
@click.option("--atoms", default=4000, show_default=True, help="Of each walker, about.")
@click.option("--steps", type=int, help="Of each walker; default: what fits into three quarters of the time.")
@click.option("--threshold", default=5.0, show_default=True, help="otf.uncertainty_threshold")
@click.option("--keep", type=click.Path(path_type=Path), help="New folder for the run; default: a temporary one.")
def main(as_json: bool, minutes: float, atoms: int, steps: int | None, threshold: float, keep: Path | None) -> None:
    """Write a run, start it, look, and tell how it went."""
    steps = steps or int(0.75 * 60 * minutes * STEPS_PER_ATOM_AND_S / atoms)
    with tempfile.TemporaryDirectory() as scratch:
        run = write_run(keep or Path(scratch) / "run", atoms, steps, threshold)
        looks, complaints, shares = attend(run, minutes)
        with (run.root / "status.jsonl").open("w") as target:
            target.writelines(json.dumps(asdict(seen)) + "\n" for seen in looks)
        facts = looks[-1].facts or {}
        walkers = summary(run, looks)
        no_sense = silences(looks, complaints)
        result = {
            "walkers": walkers, "cpu": shares, "no_sense": no_sense,
            "whole": {
                "minutes": looks[-1].at / 60, "completed": all(row["state"] == "done" for row in walkers),
                "gamma below the threshold at the end": all(
                    row["gamma_at_end"] is not None and row["gamma_at_end"] <= threshold for row in walkers
                ),
                "labels": facts.get("labels"), "versions": len(facts.get("versions", [])),
                "looks": len(looks), "without sense": len(no_sense), "longest answer s": max(s.took for s in looks),
                "force RMSE": (facts.get("versions") or [{}])[-1].get("force_rmse"),
            },
        }  # fmt: skip
    if as_json:
        print(json.dumps(result))
    else:
        show(result, looks)


if __name__ == "__main__":
    main()
