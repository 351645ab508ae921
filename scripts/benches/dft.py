"""DFT: hard SCFs with pw.x's defaults and with our ladder, against tight references; overhead; continued SCFs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from ase.build import bulk

from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.core.clock import iso_time
from mlip_autopipec.core.errors import TimedOut
from mlip_autopipec.core.events import read_events
from mlip_autopipec.engines.espresso.labeller import EspressoLabeller
from mlip_autopipec.engines.espresso.settings import EspressoNode, EspressoSettings
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task

sys.path.insert(0, str(Path(__file__).parent / "dft"))
from hardcases import CASES, GOOD_MEV, run_case

PARTS = ("cases", "overhead", "worker", "continued")


def overhead(repeats: int) -> dict[str, float]:
    """Return s of our machinery per label: wall time of `label` minus pw.x's own."""
    settings = EspressoSettings(pseudopotentials={"Al": "Al.pz-vbc.UPF"}, ecutwfc_ry=12, kspacing=1.2)
    labeller = EspressoLabeller(settings)
    spent = []
    for number in range(repeats):
        atoms = bulk("Al", cubic=True)
        atoms.rattle(0.1, seed=number)
        with tempfile.TemporaryDirectory() as folder:
            begin = time.monotonic()
            label = labeller.label(atoms, Path(folder))
            spent.append(time.monotonic() - begin - label.info["seconds"])
    return {"labels": repeats, "mean_s": sum(spent) / repeats, "worst_s": max(spent)}


def through_a_worker(number: int) -> dict[str, float]:
    """Return s from claim to label less pw.x's own, of a dft-worker, whose first task also waits for its child."""
    with tempfile.TemporaryDirectory() as root:
        run = RunDirectory(Path(root))
        run.create()
        bulk("Al", cubic=True).write(run.root / "al.extxyz")
        settings = EspressoSettings(pseudopotentials={"Al": "Al.pz-vbc.UPF"}, ecutwfc_ry=12, kspacing=1.2)
        labeller = settings.model_dump(mode="json")
        config = {"start": {"structure": "al.extxyz", "dataset": "al.extxyz"}, "labeller": labeller}
        run.config_file.write_text(json.dumps(config))
        queue = TaskQueue(run.queue / "dft", Results(run.results), worker="bench", attempts=run.attempts)
        for seed in range(number):
            atoms = bulk("Al", cubic=True)
            atoms.rattle(0.1, seed=seed)
            origin = {"walker": "w00", "step": seed, "version": "v0001"}
            queue.publish(
                Task.new(
                    atoms, [1] * 4, labeller, priority=2.0, origin=origin, config_type="bench", created=iso_time(0.0)
                )
            )
        words = ["worker", "dft", "-C", root, "--name", "w0", "--max-tasks", str(number)]
        code = "from mlip_autopipec.cli.main import main; main()"
        subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)
        spent, beyond, claimed = [], [], 0.0
        for event in read_events(run.events / "w0.jsonl"):
            when = datetime.fromisoformat(event["time"]).timestamp()
            if event["event"] == "task_claimed":
                claimed = when
            elif event["event"] == "label_done":
                (task,) = event["task_ids"]
                spent.append(when - claimed - queue.results.read(task)["info"]["seconds"])
                beyond.append(when - claimed - own_seconds(run.attempt(task)))
        bare = [by_hand(folder) for folder in run.attempts.glob("*/*-w0")]
    later = spent[1:]
    return {
        "labels": len(spent), "first_s": spent[0], "mean_s": sum(later) / len(later), "worst_s": max(later),
        "all_less_what_pw_prints_s": sum(beyond[1:]) / len(later),
        "by_hand_less_what_pw_prints_s": sum(bare) / len(bare),
    }  # fmt: skip


def by_hand(folder: Path) -> float:
    """Return s that a run of the same input by hand takes less what pw.x prints: its loading and its end."""
    begin = time.monotonic()
    with (folder / "espresso.pwo").open("wb") as out:
        subprocess.run(
            ["pw.x", "-in", "espresso.pwi"],
            cwd=folder,
            stdout=out,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    return time.monotonic() - begin - own_seconds(folder.parent)


def own_seconds(attempt: Path) -> float:
    """Return the wall time that pw.x prints, s."""
    texts = [path.read_text() for path in attempt.glob("*/espresso.pwo")]
    return sum(float(found) for text in texts for found in re.findall(r"PWSCF +:.* CPU +([\d.]+)s WALL", text))


def continued() -> dict[str, Any]:
    """Return SCF iterations of a label made at once, and of one that was stopped and continued by a second attempt."""
    atoms = bulk("Al", cubic=True) * (1, 1, 2)
    atoms.rattle(0.15, seed=5)
    settings = EspressoSettings(pseudopotentials={"Al": "Al.pz-vbc.UPF"}, ecutwfc_ry=15, kspacing=0.5)
    with tempfile.TemporaryDirectory() as root:
        whole = EspressoLabeller(settings).label(atoms, _folder(root, "00-whole"))
        limit = 0.6 * whole.info["seconds"]
        stopped = 0
        try:
            EspressoLabeller(settings, EspressoNode(max_seconds=limit)).label(atoms, _folder(root, "01-stopped"))
        except TimedOut:
            stopped = json.loads((Path(root) / "01-stopped/rungs.json").read_text())["rungs"][0]["iterations"]
        rest = EspressoLabeller(settings).label(atoms, _folder(root, "02-continued"))
    return {
        "at_once": whole.info["scf_iterations"], "before_the_stop": stopped,
        "continued": rest.info["scf_iterations"], "rung": rest.info["rungs"][0]["rung"],
        "energy_difference_mev": 1000 * (rest.energy - whole.energy),
    }  # fmt: skip


def _folder(root: str, name: str) -> Path:
    folder = Path(root) / name
    folder.mkdir()
    return folder


def cases(names: list[str], limit_s: float, out: Path) -> list[dict[str, Any]]:
    """Run hard cases; results are written to `out` as they come."""
    rows = []
    for name in names:
        rows.append(run_case(name, limit_s))
        out.write_text(json.dumps(rows, indent=1))
    return rows


@click.command()
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), help="Only this; repeatable.")
@click.option("--case", "names", multiple=True, type=click.Choice(list(CASES)), help="Only this hard case; repeatable.")
@click.option(
    "--limit", default=240.0, show_default=True, help="s for a run with defaults; the ladder gets 3 times that."
)
@click.option("--out", default="bench-dft.json", type=click.Path(path_type=Path), help="Hard cases, as they come.")
@click.option("--json", "as_json", is_flag=True)
def main(parts: tuple[str, ...], names: tuple[str, ...], limit: float, out: Path, as_json: bool) -> None:
    """Measure what the ladder is worth, and what our machinery costs."""
    measures = {
        "cases": lambda: cases(list(names or CASES), limit, out),
        "overhead": lambda: overhead(5),
        "worker": lambda: through_a_worker(11),
        "continued": continued,
    }
    facts = {part: measures[part]() for part in parts or PARTS}
    if as_json:
        click.echo(json.dumps(facts))
        return
    if "cases" in facts:
        show_cases(facts["cases"])
    for part, what in (("overhead", "overhead"), ("worker", "claim to label less pw.x"), ("continued", "continued")):
        if part in facts:
            click.echo(f"{what}: {facts[part]}")


def climbed(row: dict[str, Any]) -> str:
    return "; ".join(f"{rung['rung']}: {rung['end']} ({rung['iterations']})" for rung in row["rungs"])


def show_cases(rows: list[dict[str, Any]]) -> None:
    print_table(
        f"hard SCFs (good: within {GOOD_MEV:g} meV/atom of the tight reference)",
        ("case", "defaults", "meV/atom", "ladder", "meV/atom", "rungs"),
        (
            (row["case"], row["defaults_end"], row["defaults_mev"], row["ladder_end"], row["ladder_mev"], climbed(row))
            for row in rows
        ),
    )
    for name in ("defaults", "ladder"):
        click.echo(f"{name}: {sum(r[f'{name}_good'] for r in rows)} of {len(rows)} good")


if __name__ == "__main__":
    main()
