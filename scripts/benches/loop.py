"""The loop: where the time of an MD step goes, and the time from `task_published` to `swapped`."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import ase.io
import click
import numpy as np
from ase import Atoms

from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.core.events import TASK_STORY
from mlip_autopipec.daemons.evaluators import make_evaluator
from mlip_autopipec.engines.lammps.md import LammpsMD
from mlip_autopipec.engines.lammps.settings import MDSettings
from mlip_autopipec.store.registry import Registry

PARTS = ("list", "evaluation", "gamma", "python", "lammps")


def md_steps(version: Path, atoms: Atoms, steps: int, gamma_every: int) -> dict[str, Any]:
    """Microseconds per atom and step of MD under watch, split by part."""
    with LammpsMD(make_evaluator(version), MDSettings(timestep_fs=2.0)) as md:
        md.gamma_every = gamma_every
        md.start(atoms, velocity_seed=1)
        md.run(2)  # compiles and sets up
        md.timings(reset=True)
        begin = time.perf_counter()
        md.run(steps)
        total = time.perf_counter() - begin
        split = md.timings()
    scale = 1e6 / (len(atoms) * steps)
    row = {"atoms": len(atoms), "gamma_every": gamma_every, "total": scale * total}
    return row | {part: scale * split[part] for part in PARTS}


def ase_calculator_step(version: Path, atoms: Atoms) -> float:
    """Microseconds per atom and step of python-ace's own ASE calculator, with its own neighbour list."""
    from pyace import PyACECalculator

    calculator = PyACECalculator(str(version / "potential.yaml"))
    copy = atoms.copy()
    copy.calc = calculator
    copy.get_forces()
    times = []
    for shift in (1e-3, 2e-3, 3e-3):
        copy.positions[0, 0] += shift
        begin = time.perf_counter()
        copy.get_forces()
        times.append(time.perf_counter() - begin)
    return 1e6 * min(times) / len(atoms)


def stage_times(run: Path) -> list[dict[str, Any]]:
    """Median and largest seconds between neighbouring events of one task, over all tasks that were swapped in."""
    first: dict[str, dict[str, float]] = {}
    for line in (run / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        moment = datetime.fromisoformat(event["time"]).timestamp()
        for task in event.get("task_ids", ()):
            story = first.setdefault(task, {})
            story[event["event"]] = min(moment, story.get(event["event"], moment))
    whole = [story for story in first.values() if all(name in story for name in TASK_STORY)]
    rows = []
    for a, b in [*pairwise(TASK_STORY[1:]), ("label_done", "swapped"), ("task_published", "swapped")]:
        gaps = [story[b] - story[a] for story in whole]
        if gaps:
            rows.append({"from": a, "to": b, "median_s": statistics.median(gaps), "max_s": max(gaps), "n": len(gaps)})
    return rows


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--run", type=click.Path(path_type=Path), help="A finished run of `--example al`; default: make one.")
def main(as_json: bool, run: Path | None) -> None:
    """Run the aluminium example, then measure."""
    with tempfile.TemporaryDirectory() as scratch:
        if run is None:
            run = Path(scratch) / "al"
            for words in (["init", str(run), "--example", "al"], ["otf", "start", "-C", str(run), "--foreground"]):
                subprocess.run([str(Path(sys.executable).with_name("autopipe")), *words], check=True, stdout=sys.stderr)
        registry = Registry(run / "potentials")
        version = registry.path(registry.versions()[-1])
        small: Atoms = ase.io.read(run / "start" / "structure.extxyz")
        small.positions += np.random.default_rng(1).normal(0, 0.05, small.positions.shape)
        md = []
        for atoms, steps in ((small, 60), (small * (2, 2, 2), 10)):
            peer = ase_calculator_step(version, atoms)
            for gamma_every in (10, 1):
                row = md_steps(version, atoms, steps, gamma_every)
                md.append({**row, "ase_calculator": peer, "ratio": peer / row["total"]})
        loop = stage_times(run)
    if as_json:
        print(json.dumps({"md_us_per_atom_step": md, "loop_s": loop}))
        return
    columns = ("atoms", "gamma_every", "total", *PARTS, "ase_calculator", "ratio")
    print_table("MD under watch, microseconds per atom and step", columns, ([r[c] for c in columns] for r in md))
    columns = ("from", "to", "median_s", "max_s", "n")
    print_table("from task_published to swapped", columns, ([r[c] for c in columns] for r in loop))


if __name__ == "__main__":
    main()
