"""The task queue under kills, stopped workers that wake up, files moved by hand, and a full disk, all at once."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import random
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from ase import Atoms

from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.core.errors import DataError, QueueError
from mlip_autopipec.core.files import append_line
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.store.layout import id_in_name
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results, make_result
from mlip_autopipec.store.task import Task

CREATED = "2026-01-01T00:00:00.000Z"
PLACES = (
    "pending", "pending/00-first", "pending/99-last", "delayed", "held", "running", "running/gone", "running/w1",
    "done", "done/00", "failed", "cancelled", "corrupt", "tmp", "cancel", "leases", ".",
)  # fmt: skip


def open_queue(run: Path, worker: str, lease_s: float) -> TaskQueue:
    results = Results(run / "results", fsync=False)
    return TaskQueue(
        run / "queue" / "dft", results, worker=worker, lease_s=lease_s, retries=10**6, retry_delay_s=0.05, fsync=False
    )


def new_task(number: int, gamma: float) -> Task:
    atoms = Atoms("Al2", positions=[[0, 0, 0], [0, 0, 2 + number / 1e4]], cell=[9, 9, 99], pbc=True)
    origin = {"walker": "w00", "step": number, "version": "v0001"}
    labeller = {"engine": "teacher", "model": "emt"}
    return Task.new(atoms, [1, 1], labeller, priority=gamma, origin=origin, config_type="chaos", created=CREATED)


def work(run: Path, log: Path, name: str, lease_s: float) -> None:
    """Label for ever. The log lies on another filesystem, which is never full."""
    logging.disable(logging.CRITICAL)
    queue, rng = open_queue(run, name, lease_s), random.Random(f"{name} {os.getpid()}")

    def note(what: str, task_id: str) -> None:
        append_line(log, f"{what} {task_id}")

    while True:
        try:
            queue.beat()
            claim = queue.claim()
            if claim is None:
                queue.sweep(every_s=lease_s / 4)
                time.sleep(0.01)
                continue
            _label(queue, claim, rng, note)
        except QueueError as error:
            if not error.transient:
                raise
            time.sleep(0.02)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            time.sleep(0.02)


def _label(queue: TaskQueue, claim: Any, rng: random.Random, note: Any) -> None:
    task_id = claim.task.id
    note("start", task_id)
    time.sleep(rng.uniform(0, 0.01))
    dice = rng.random()
    if dice < 0.02:
        note("again", task_id)
        queue.fail(claim, "dice", transient=True)
        return
    if dice < 0.04:
        note("again", task_id)
        queue.give_back(claim, "dice")
        return
    record = make_result(claim.task, Label(-rng.random(), np.zeros((2, 3)), None, {}), queue.worker, CREATED)
    while True:
        try:
            if queue.complete(claim, record):
                note("first", task_id)
            return
        except QueueError as error:
            if not error.transient:
                raise
            # The disk is full: as the dft-worker does, keep the label and try again.
            queue.beat()
            time.sleep(0.02)


class Chaos:
    """Supervisor, publisher, operator and vandal in one process."""

    def __init__(self, run: Path, log: Path, plan: dict[str, Any]) -> None:
        self.run, self.log, self.plan = run, log, plan
        self.lease_s: float = plan["lease"]
        self.rng = random.Random(plan["seed"])
        self.queue = open_queue(run, "operator", self.lease_s)
        self.children: dict[str, int] = {}
        self.asleep: dict[str, float] = {}
        self.published: list[Task] = []
        self.did: Counter[str] = Counter()
        self.started = 0
        self.ballast = run / "ballast"
        self.relief = 0.0

    # -- what is done to the queue --

    def start(self, name: str | None = None) -> None:
        self.started += 1
        name = name or f"w{self.started}"
        pid = os.fork()
        if pid == 0:
            try:
                work(self.run, self.log, name, self.lease_s)
            except BaseException as error:
                append_line(self.log, f"error {type(error).__name__}: {error}".replace("\n", " "))
            finally:
                os._exit(1)
        self.children[name] = pid

    def kill(self, name: str) -> None:
        pid = self.children.pop(name)
        self.asleep.pop(name, None)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

    def kill_one(self) -> None:
        name = self.rng.choice(sorted(self.children))
        self.kill(name)
        self.did["kills"] += 1
        self.start(self.rng.choice([name, None]))

    def stop_one(self) -> None:
        """Let a worker sleep for longer than its lease."""
        awake = sorted(set(self.children) - set(self.asleep))
        if len(awake) > 1:
            name = self.rng.choice(awake)
            os.kill(self.children[name], signal.SIGSTOP)
            self.asleep[name] = time.monotonic() + self.lease_s * self.rng.uniform(0.5, 2.0)
            self.did["stops"] += 1

    def wake(self, all_of_them: bool = False) -> None:
        for name, until in list(self.asleep.items()):
            if all_of_them or time.monotonic() >= until:
                os.kill(self.children[name], signal.SIGCONT)
                del self.asleep[name]

    def publish_one(self) -> None:
        if len(self.published) < self.plan["tasks"]:
            task = new_task(len(self.published), self.rng.choice([0.5, 3.0, 3.0, 40.0, 2000.0]))
            with contextlib.suppress(QueueError):  # the disk is full: nothing was published
                self.queue.publish(task)
                self.published.append(task)

    def files(self) -> Iterator[tuple[str, Path]]:
        """Iterate over (id, path) of every task file, wherever it lies."""
        for folder, _, names in os.walk(self.queue.layout.root):
            for name in names:
                if task_id := id_in_name(name):
                    yield task_id, Path(folder) / name

    def move_some(self, number: int) -> None:
        """Move files by hand: from anywhere to anywhere."""
        files = [path for _, path in self.files()]
        for path in self.rng.sample(files, min(number, len(files))):
            target = self.queue.layout.root / self.rng.choice(PLACES) / path.name
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.rename(path, target)
                self.did["moves"] += 1
            except FileNotFoundError:
                pass  # a worker was faster
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def fill_disk(self) -> None:
        """Leave no byte free for a while."""
        if not self.plan["small_disk"] or self.relief:
            return
        with contextlib.suppress(OSError), self.ballast.open("wb", buffering=0) as handle:
            while True:
                handle.write(b"\0" * 65536)
        with contextlib.suppress(OSError), self.ballast.open("ab", buffering=0) as handle:
            while True:
                handle.write(b"\0" * 512)
        self.relief = time.monotonic() + self.lease_s * self.rng.uniform(0.2, 1.5)
        self.did["full_disks"] += 1

    def free_disk(self, now: bool = False) -> None:
        if self.relief and (now or time.monotonic() >= self.relief):
            self.ballast.unlink()
            self.relief = 0.0

    def unpark(self) -> None:
        """Bring back what the vandal parked, as an operator would: with `mv`."""
        for state in ("held", "failed", "cancelled", "corrupt"):
            for path in (self.queue.layout.root / state).rglob("*.json"):
                task_id = id_in_name(path.name)
                if task_id and not self.queue.results.exists(task_id):
                    with contextlib.suppress(OSError):
                        os.rename(path, self.queue.layout.pending / path.name)

    # -- the course of it --

    def rage(self) -> None:
        plan, begin = self.plan, time.monotonic()
        for _ in range(plan["workers"]):
            self.start()
        while self.did["kills"] < plan["kills"] and time.monotonic() - begin < plan["seconds"]:
            for _ in range(max(1, plan["tasks"] // max(1, plan["kills"]))):
                self.publish_one()
            self.kill_one()
            if self.did["kills"] % plan["moves"] == 0:
                self.move_some(plan["moves"])
            if self.did["kills"] % 10 == 0:
                self.stop_one()
            if self.did["kills"] % 100 == 50:
                self.fill_disk()
            if self.did["kills"] % 50 == 0:
                self.unpark()
            self.wake()
            self.free_disk()
            time.sleep(self.rng.uniform(0, 2 * plan["pause"]))
        self.did["rage_s"] = round(time.monotonic() - begin)

    def calm(self) -> float:
        """Leave the workers alone until all is labelled and in its place; return how many leases that took."""
        self.free_disk(now=True)
        self.wake(all_of_them=True)
        while len(self.published) < self.plan["tasks"]:
            self.publish_one()
        begin = time.monotonic()
        while time.monotonic() - begin < 60 + 60 * self.lease_s:
            self.unpark()
            if len(set(self.queue.results.ids())) == len(self.published):
                break
            time.sleep(0.1)
        # From here on nobody asks for anything: how long until every file is where it belongs?
        begin = time.monotonic()
        while time.monotonic() - begin < 60 * self.lease_s:
            counts = self.queue.counts()
            if counts["done"] + counts["corrupt"] == sum(counts.values()) and not self.queue.plan():
                break
            time.sleep(self.lease_s / 20)
        leases = (time.monotonic() - begin) / self.lease_s
        for name in sorted(self.children):
            self.kill(name)
        return leases

    def report(self, leases: float) -> dict[str, Any]:
        lines = [line.split(maxsplit=1) for line in self.log.read_text().splitlines()]
        firsts = [rest for what, rest in lines if what == "first"]
        starts = sum(what == "start" for what, _ in lines)
        again = sum(what == "again" for what, _ in lines)
        places = Counter(task_id for task_id, _ in self.files())
        torn, lost_results = 0, 0
        for task in self.published:
            try:
                record = self.queue.results.read(task.id)
                lost_results += record["task"]["structure"] != task.structure
            except FileNotFoundError:
                lost_results += 1
            except DataError:
                torn += 1
        for task_id, path in self.files():
            try:
                torn += Task.read(path).id != task_id
            except DataError:
                torn += 1
        errors = [rest for what, rest in lines if what == "error"]
        return {
            **{key: self.did[key] for key in ("kills", "stops", "moves", "full_disks", "rage_s")},
            "tasks": len(self.published),
            "executions": starts,
            "re_executions": starts - again - len(self.published),
            "results_lost": lost_results,
            "labels_twice": len(firsts) - len(set(firsts)),
            "torn_files": torn,
            "tasks_lost": sum(places[task.id] == 0 for task in self.published),
            "tasks_in_two_places": sum(n > 1 for n in places.values()),
            "leases_to_converge": round(leases, 2),
            "states": {state: n for state, n in self.queue.counts().items() if n},
            "temporary_files": sum(1 for _ in self.queue.results.tmp.iterdir()),
            "errors": errors[:5],
        }


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path | None]:
    """Mount a small tmpfs; None where that is not permitted."""
    with tempfile.TemporaryDirectory() as scratch:
        options = f"size={megabytes}m,nr_inodes=0,mode=755"
        mounted = os.geteuid() == 0 and (
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "chaos", scratch], capture_output=True).returncode
            == 0
        )
        try:
            yield Path(scratch) if mounted else None
        finally:
            if mounted:
                subprocess.run(["umount", "-l", scratch], check=True)


def losses(report: dict[str, Any]) -> list[str]:
    """Return what must not have happened and did."""
    zero = ("results_lost", "labels_twice", "torn_files", "tasks_lost", "tasks_in_two_places")
    bad = [f"{key}: {report[key]}" for key in zero if report[key]]
    if report["leases_to_converge"] > 2:
        bad.append(f"converged after {report['leases_to_converge']} leases")
    if report["re_executions"] > report["kills"]:
        bad.append(f"{report['re_executions']} re-executions")
    # What the vandal moved to corrupt/ when it had its label stays there, as `queue_layout.md` says.
    if set(report["states"]) - {"done", "corrupt"}:
        bad.append(f"states {report['states']}")
    return bad + [f"a worker ended: {error}" for error in report["errors"]]


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--kills", default=1000, show_default=True)
@click.option("--seconds", default=300.0, show_default=True, help="The kills end then, whether all are done or not.")
@click.option("--tasks", type=int, help="[default: one for each kill]")
@click.option("--workers", default=6, show_default=True)
@click.option("--lease", default=3.0, show_default=True, help="s")
@click.option("--pause", default=0.03, show_default=True, help="Mean pause between kills, s.")
@click.option("--megabytes", type=int, help="Size of the disk that becomes full.  [default: 64, and 2 per 100 tasks]")
@click.option("--seed", default=1, show_default=True)
def main(as_json: bool, tasks: int | None, megabytes: int | None, **plan: Any) -> None:
    """Exit code 1 if anything was lost, doubled, torn, or did not converge."""
    plan["tasks"] = tasks or plan["kills"]
    # Choosing files looks at all of them: among very many, more at a time and less often.
    plan["moves"] = max(4, plan["tasks"] // 250)
    with small_disk(megabytes or 64 + plan["tasks"] // 50) as disk, tempfile.TemporaryDirectory() as scratch:
        run = (disk or Path(scratch)) / "run"
        run.mkdir()
        log = Path(scratch) / "log"
        log.touch()
        chaos = Chaos(run, log, {**plan, "small_disk": disk is not None})
        try:
            chaos.rage()
            report = chaos.report(chaos.calm())
        finally:
            for name in sorted(chaos.children):
                chaos.kill(name)
    bad = losses(report)
    if as_json:
        click.echo(json.dumps({**report, "bad": bad}))
    else:
        print_table("chaos", ("what", "number"), ((key, str(value)) for key, value in report.items()))
        click.echo("\n".join(bad) or "nothing lost, nothing doubled, nothing torn")
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
