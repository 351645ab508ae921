"""DFT labels while workers, their children and pw.x are killed: one label or one failure with a reason for each."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import psutil
import yaml
from ase.build import bulk
from chaos_runs.dft_lab.tasks import FAKE_PW, Plan, fake_plans, real_plans
from chaos_runs.dft_lab.victims import KINDS, MARK, Victims

from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.core.errors import DataError, EngineError
from mlip_autopipec.core.events import read_events
from mlip_autopipec.store.layout import id_in_name
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory

WORKER = "from mlip_autopipec.cli.main import main; main()"
GOING_S = 60.0
PATIENCE_S = 2.0


class Chaos:
    """Publisher, supervisor and murderer in one process.

    Parameters
    ----------
    folder
        Where run directory and scratch are made.
    plans
        The structures and how each may end.
    plan
        workers, kills, seconds (of killing), pause (mean, s), lease (s), patience (s, for the rest), seed.
    fake
        Whether the fake pw.x stands in PATH before the real one.
    local_scratch
        Scratch below one folder of the node, or beside each input.
    """

    def __init__(
        self, folder: Path, plans: list[Plan], plan: dict[str, Any], *, fake: bool, local_scratch: bool
    ) -> None:
        self.folder, self.plans, self.plan = folder, plans, plan
        self.rng = random.Random(plan["seed"])
        self.run = RunDirectory(folder / "run")
        self.run.create()
        self.scratch = folder / "scratch"
        self.victims = Victims()
        path = f"{FAKE_PW.parent}:{os.environ['PATH']}" if fake else os.environ["PATH"]
        self.environment = {**os.environ, MARK: self.victims.mark, "PATH": path, "OMP_NUM_THREADS": "1"}
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.started = 0
        self.did: Counter[str] = Counter()
        self._configure(local_scratch)
        self.queue = TaskQueue(
            self.run.queue / "dft", Results(self.run.results), worker="operator", attempts=self.run.attempts,
            lease_s=plan["lease"],
        )  # fmt: skip
        for one in plans:
            self.queue.publish(one.task)

    def _configure(self, local_scratch: bool) -> None:
        bulk("Al", cubic=True).write(self.run.root / "start.extxyz")
        espresso: dict[str, Any] = {"command": "pw.x", "max_seconds": 15.0, "kill_grace_s": 1.0}
        if local_scratch:
            espresso["scratch"] = str(self.scratch)
        if not self.plan["hurry"]:
            del espresso["max_seconds"]
        config = {
            "start": {"structure": "start.extxyz", "dataset": "start.extxyz"},
            "labeller": {"engine": "espresso", "elements": ["Al"]},
            "queue": {"lease_s": self.plan["lease"], "retry_delay_s": 0.5},
            "supervisor": {"label_grace_s": 1.0},
            "node": {"espresso": espresso},
        }
        self.run.config_file.write_text(yaml.safe_dump(config))

    # -- workers --

    def start(self, name: str) -> None:
        self.started += 1
        log = (self.folder / f"{name}.log").open("ab")
        self.workers[name] = subprocess.Popen(
            [sys.executable, "-c", WORKER, "worker", "dft", "-C", str(self.run.root), "--name", name],
            env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        log.close()

    def replace_the_dead(self) -> None:
        """Start a worker for each that ended, under its name or a new one."""
        for name, process in list(self.workers.items()):
            if process.poll() is None:
                continue
            del self.workers[name]
            # 0 is a drained one, SIGTERM one that was to drain before it could.
            if process.returncode not in (0, -signal.SIGKILL, -signal.SIGTERM):
                self.did["workers_crashed"] += 1
            self.start(self.rng.choice([name, f"w{self.started}"]))

    def kill_one(self) -> None:
        """Send SIGKILL to a process of a random kind; now and then let a worker drain instead."""
        kind = self.rng.choice(KINDS)
        until = time.monotonic() + PATIENCE_S
        # A pw.x of half a second is rarely there when one looks.
        while not (found := self.victims.alive()[kind]):
            if time.monotonic() > until:
                return
        victim = self.rng.choice(found)
        number = signal.SIGTERM if kind == "worker" and self.rng.random() < 0.2 else signal.SIGKILL
        with contextlib.suppress(psutil.Error):
            victim.send_signal(number)
            self.did[f"killed {kind}" if number == signal.SIGKILL else "drained worker"] += 1
            self.did["kills"] += 1

    # -- the course of it --

    def rage(self) -> None:
        begin = time.monotonic()
        for number in range(self.plan["workers"]):
            self.start(f"w{number}")
        while self.did["kills"] < self.plan["kills"] and time.monotonic() - begin < self.plan["seconds"]:
            time.sleep(self.rng.uniform(0, 2 * self.plan["pause"]))
            if self.unfinished() == 0:
                break
            self.kill_one()
            self.replace_the_dead()
        self.did["rage_s"] = round(time.monotonic() - begin)

    def calm(self) -> None:
        """Kill nobody any more, until all is done; then let the workers go."""
        begin = time.monotonic()
        while self.unfinished() and time.monotonic() - begin < self.plan["patience"]:
            self.replace_the_dead()
            time.sleep(0.2)
        self.did["calm_s"] = round(time.monotonic() - begin)
        for process in self.workers.values():
            process.terminate()
        for process in self.workers.values():
            process.wait(GOING_S)

    def unfinished(self) -> int:
        counts = self.queue.counts()
        return sum(number for state, number in counts.items() if state not in ("done", "failed"))

    def end(self) -> None:
        """Leave nothing behind, also after an error of ours."""
        for processes in self.victims.alive().values():
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()

    # -- what came of it --

    def report(self) -> dict[str, Any]:
        left = self.victims.alive()
        places = Counter(
            task_id
            for _, _, names in os.walk(self.queue.layout.root)
            for name in names
            if (task_id := id_in_name(name))
        )
        told = Counter(
            event["task_ids"][0]
            for file in self.run.events.glob("*.jsonl")
            for event in read_events(file)
            if event["event"] == "label_done"
        )
        ends = {one.task.id: self._end_of(one) for one in self.plans}
        reruns = sum(len(list(self.run.attempt(one.task.id).glob("[0-9][0-9]*-*"))) for one in self.plans)
        return {
            "tasks": len(self.plans),
            **{key: self.did[key] for key in ("kills", *(f"killed {kind}" for kind in KINDS), "drained worker")},
            **{key: self.did[key] for key in ("workers_crashed", "rage_s", "calm_s")},
            "workers_started": self.started,
            "attempts": reruns,
            "labels": sum(state == "label" for state, _ in ends.values()),
            "failures": sum(state == "failure" for state, _ in ends.values()),
            "reasons": Counter(what.split(":")[0] for state, what in ends.values() if state == "failure"),
            "wrong": [f"{task_id}: {what}" for task_id, (state, what) in ends.items() if state == "wrong"],
            "in_several_places": sum(number > 1 for number in places.values()),
            "told_twice": sum(number > 1 for number in told.values()),
            "scratch_left": [str(path.relative_to(self.folder)) for path in self._scratch_left()],
            "processes_left": sum(len(processes) for processes in left.values()),
            "pw_x_left": len(left["pw.x"]),
        }

    def _end_of(self, one: Plan) -> tuple[str, str]:
        """Return `label`, `failure` or `wrong`, and the reason."""
        state = self.queue.state(one.task.id)
        try:
            record = self.queue.results.read(one.task.id)
        except FileNotFoundError:
            record = None
        except DataError as error:
            return "wrong", f"torn result: {error}"
        if (state, record is not None) not in (("done", True), ("failed", False)):
            return "wrong", f"state {state}, {'a' if record else 'no'} result"
        reason = "" if record else str(self.queue.reason(one.task.id) or "")
        if not record and not reason:
            return "wrong", "failed without a reason"
        wrong = one.wrong(record["energy"] if record else None, reason)
        return ("wrong", wrong) if wrong else ("label", "") if record else ("failure", reason)

    def _scratch_left(self) -> list[Path]:
        beside = [*self.run.attempts.glob("*/*/scratch"), *self.run.attempts.glob("*/*/.density.tmp")]
        # The density of an SCF that may be continued outlives an attempt, but never a label.
        kept = [path for path in self.run.attempts.glob("*/*/density") if self.queue.results.exists(path.parts[-3])]
        return [*beside, *kept, *(self.scratch.glob("*") if self.scratch.exists() else ())]


def losses(report: dict[str, Any]) -> list[str]:
    """Return what must not have happened and did."""
    bad = list(report["wrong"])
    if report["labels"] + report["failures"] != report["tasks"]:
        bad.append(f"{report['tasks']} tasks, {report['labels']} labels and {report['failures']} failures")
    zero = ("workers_crashed", "in_several_places", "told_twice", "processes_left", "pw_x_left")
    bad += [f"{key}: {report[key]}" for key in zero if report[key]]
    return bad + [f"left behind: {path}" for path in report["scratch_left"]]


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--engine", type=click.Choice(["fake", "real"]), default="fake", show_default=True)
@click.option("--tasks", type=int, help="[default: 200 with the fake pw.x, 20 with the real one]")
@click.option("--workers", default=4, show_default=True)
@click.option("--kills", type=int, help="[default: half as many as tasks, as many with the real pw.x]")
@click.option("--seconds", default=900.0, show_default=True, help="The kills end then, whether all are done or not.")
@click.option("--pause", default=1.0, show_default=True, help="Mean pause between kills, s.")
@click.option("--lease", default=3.0, show_default=True, help="s")
@click.option("--patience", default=1200.0, show_default=True, help="s for the rest, after the kills")
@click.option("--scratch", type=click.Choice(["local", "beside"]), default="local", show_default=True)
@click.option("--keep", is_flag=True, help="Keep the run directory, and say where.")
@click.option("--seed", default=1, show_default=True)
def main(
    as_json: bool, engine: str, tasks: int | None, kills: int | None, scratch: str, keep: bool, **plan: Any
) -> None:
    """Exit code 1 if a structure has no end or two, or anything is left behind."""
    fake = engine == "fake"
    if not fake and shutil.which("pw.x") is None:
        raise EngineError("pw.x is missing", "apt-get install quantum-espresso quantum-espresso-data")
    number = tasks or (200 if fake else 20)
    plan |= {"kills": kills if kills is not None else number // (2 if fake else 1), "hurry": fake}
    folder = Path(tempfile.mkdtemp(prefix="chaos-dft-"))
    plans = fake_plans(number) if fake else real_plans(number, folder / "quiet")
    chaos = Chaos(folder, plans, plan, fake=fake, local_scratch=scratch == "local")
    try:
        chaos.rage()
        chaos.calm()
        report = {"engine": engine, **chaos.report()}
    finally:
        chaos.end()
    bad = losses(report)
    if keep or bad:
        click.echo(f"kept: {folder}", err=True)
    else:
        shutil.rmtree(folder)
    if as_json:
        click.echo(json.dumps({**report, "bad": bad}))
    else:
        print_table("chaos", ("what", "number"), ((key, str(value)) for key, value in report.items()))
        click.echo("\n".join(bad) or "each structure has one label or one failure with a reason, and nothing is left")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
