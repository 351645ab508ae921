"""What each guest runs: publishers, workers and hands on the queue, and a supervisor that kills and stops workers.

Every worker writes what it did to a log outside the mount: `start ID`, then `first ID ENERGY`, `second ID` (somebody
else's label was there) or `again ID` (failed or given back); `mine` is a rename that the server did although the client
was told that there is no such file, `linked` the same of a link that was told to exist already.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from chaos_runs.queue import new_task

from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.core.files import append_line
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.store.claims import Claim
from mlip_autopipec.store.layout import id_in_name
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results, make_result

CREATED: Final = "2026-01-01T00:00:00.000Z"
# Of each host: with one of them the workers have little to do.
PUBLISHERS: Final = 2
GAMMAS: Final = (0.5, 3.0, 40.0, 2000.0)

# Where hands put task files; from each of these places the queue takes them back by itself.
PLACES: Final = ("pending", "pending/00-first", "delayed", "running/gone", "done", "done/00", "tmp", "leases", ".")

Note = Callable[[str], None]
Role = Callable[[Path, str, dict[str, Any], Note], None]


def tasks_of(count: int) -> list[Any]:
    """Return the tasks of a run; the same ones on every host."""
    return [new_task(number, GAMMAS[number % len(GAMMAS)]) for number in range(count)]


def open_queue(run: Path, worker: str, lease_s: float) -> TaskQueue:
    """Open the queue as a daemon does, with fsync, but with short retries."""
    results = Results(run / "results")
    return TaskQueue(run / "queue" / "dft", results, worker=worker, lease_s=lease_s, retries=10**6, retry_delay_s=0.5)


def watch_calls(note: Note, worker: str) -> None:
    """Note the renames and links of this process that happened although the client was told that they did not."""
    rename, link = os.rename, os.link

    def watched_rename(source: Any, target: Any) -> None:
        try:
            rename(source, target)
        except OSError as error:
            # Only this worker moves files into its own folder.
            own = Path(target).parent.name == worker
            if own and error.errno in (errno.ENOENT, errno.ESTALE) and os.path.lexists(target):
                note("mine")
            raise

    def watched_link(source: Any, target: Any) -> None:
        try:
            link(source, target)
        except OSError:
            if os.stat(source).st_nlink == 2:
                note("linked")
            raise

    os.rename, os.link = watched_rename, watched_link  # type: ignore[assignment]


def work(run: Path, name: str, plan: dict[str, Any], note: Note) -> None:
    """Label for ever."""
    queue, rng = open_queue(run, name, plan["lease"]), random.Random(f"{name} {os.getpid()}")
    watch_calls(note, name)
    while True:
        queue.beat()
        claim = queue.claim()
        if claim is None:
            queue.sweep(every_s=plan["lease"] / 4)
            time.sleep(rng.uniform(0.1, 0.5))
        else:
            _label(queue, claim, rng, note)


def _label(queue: TaskQueue, claim: Claim, rng: random.Random, note: Note) -> None:
    task_id = claim.task.id
    note(f"start {task_id}")
    time.sleep(rng.uniform(0, 0.04))
    dice = rng.random()
    if dice < 0.02:
        queue.fail(claim, "dice", transient=True)
        note(f"again {task_id}")
    elif dice < 0.04:
        queue.give_back(claim, "dice")
        note(f"again {task_id}")
    else:
        energy = -rng.random()
        record = make_result(claim.task, Label(energy, np.zeros((2, 3)), None, {}), queue.worker, CREATED)
        note(f"first {task_id} {energy!r}" if queue.complete(claim, record) else f"second {task_id}")


def publish(run: Path, name: str, plan: dict[str, Any], note: Note) -> None:
    """Publish this process' share, evenly over most of the time that the faults take."""
    shares = plan["hosts"] * PUBLISHERS
    own = (plan["number"] - 1) * PUBLISHERS + int(name.partition("p")[2])
    share = tasks_of(plan["tasks"])[own::shares]
    queue, begin = open_queue(run, name, plan["lease"]), time.monotonic()
    for number, task in enumerate(share):
        while time.monotonic() - begin < plan["publish_s"] * number / len(share):
            time.sleep(0.01)
        queue.publish(task)
        note(f"published {task.id}")


def misplace(run: Path, name: str, plan: dict[str, Any], note: Note) -> None:
    """Move task files by hand until all is calm."""
    root, rng = run / "queue" / "dft", random.Random(name)
    while not (run.parents[1] / "calm").exists():
        time.sleep(rng.uniform(0, 2 * plan["move_every"]))
        folders = [folder for state in ("pending", "running", "done") for folder in root.glob(f"{state}/*/")]
        files = [path for path in rng.choice([*folders, root / "delayed"]).glob("*.json") if id_in_name(path.name)]
        if files:
            path = rng.choice(files)
            target = root / rng.choice(PLACES) / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # a worker was faster
                note(f"moved {id_in_name(path.name)} {path.parent.relative_to(root)} {target.parent.relative_to(root)}")
                os.rename(path, target)


class Host:
    """The supervisor of one guest's processes."""

    def __init__(self, lab: Path, plan: dict[str, Any]) -> None:
        self.run = lab / "mnt" / "run"
        self.lab = lab
        self.plan = plan
        self.name = f"host{plan['number']}"
        self.rng = random.Random(plan["number"])
        self.children: dict[int, tuple[str, Role]] = {}
        self.asleep: dict[int, float] = {}
        self.started = 0

    def note(self, line: str) -> None:
        append_line(self.lab / "logs" / self.name, line)

    def start(self, name: str, role: Role) -> None:
        """Fork: the imports took long enough once."""
        pid = os.fork()
        if pid:
            self.children[pid] = name, role
            return
        log = self.lab / "logs" / f"{self.name}-{name}-{os.getpid()}"
        try:
            while True:
                try:
                    role(self.run, name, self.plan, lambda line: append_line(log, line))
                except QueueError as error:
                    append_line(log, f"QueueError {error}".replace("\n", " "))
                    if not error.transient:
                        raise
                else:
                    os._exit(0)
        except BaseException as error:
            append_line(log, f"error {type(error).__name__}: {error}".replace("\n", " "))
        finally:
            os._exit(1)

    def start_worker(self, name: str | None = None) -> None:
        self.started += 1
        self.start(name or f"{self.name}w{self.started}", work)

    def workers(self) -> list[int]:
        return [pid for pid, (_, role) in self.children.items() if role is work and pid not in self.asleep]

    def kill_one(self) -> None:
        pid = self.rng.choice(self.workers())
        name, _ = self.children.pop(pid)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.note(f"killed {name}-{pid}")
        # Under its old name it takes its tasks up again at once, under a new one its lease has to run out.
        self.start_worker(self.rng.choice([name, None]))

    def stop_one(self) -> None:
        """Let a worker sleep for longer than its lease."""
        pid = self.rng.choice(self.workers())
        os.kill(pid, signal.SIGSTOP)
        self.asleep[pid] = time.monotonic() + 1.5 * self.plan["lease"]
        self.note(f"stopped {self.children[pid][0]}-{pid}")

    def wake(self, everybody: bool) -> None:
        for pid, until in list(self.asleep.items()):
            if everybody or time.monotonic() >= until:
                os.kill(pid, signal.SIGCONT)
                del self.asleep[pid]

    def revive(self) -> None:
        """Start again what ended by an error; publishers and hands end by themselves."""
        while self.children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            name, role = self.children.pop(pid)
            self.asleep.pop(pid, None)
            if status:
                self.start(name, role)

    def serve(self) -> None:
        """Work until the file `stop` appears; hurt the workers until `calm` does."""
        plan = self.plan
        self.note(f"serves {self.name}")
        for number in range(PUBLISHERS):
            self.start(f"{self.name}p{number}", publish)
        self.start(f"{self.name}h", misplace)
        for _ in range(plan["workers"]):
            self.start_worker()
        next_kill, next_stop = (time.monotonic() + plan[key] for key in ("kill_every", "stop_every"))
        while not (self.lab / "stop").exists():
            calm, now = (self.lab / "calm").exists(), time.monotonic()
            self.wake(everybody=calm)
            self.revive()
            if not calm and now >= next_kill:
                self.kill_one()
                next_kill = now + plan["kill_every"]
            if not calm and now >= next_stop and not self.asleep:
                self.stop_one()
                next_stop = now + plan["stop_every"]
            time.sleep(0.1)
        for pid in self.children:
            os.kill(pid, signal.SIGKILL)


def main() -> None:
    logging.disable(logging.CRITICAL)
    lab = Path(sys.argv[1])
    plan = json.loads((lab / "plan.json").read_text())
    Host(lab, {**plan, "number": int(sys.argv[2])}).serve()


if __name__ == "__main__":
    main()
