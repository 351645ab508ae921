"""Several workers on one queue, which a supervisor kills, stops and robs at random; run as a program of its own.

Workers are forked (this program has one thread and has imported everything), so that a kill costs milliseconds.
Prints one JSON object.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mlip_autopipec.core.clock import SystemClock
from mlip_autopipec.core.files import append_line
from mlip_autopipec.store.layout import STATES, id_in_name
from queue_tools import files_of, make_record, make_task, open_queue

N_WORKERS = 4
PLACES = "pending pending/00-first delayed held running running/gone done failed cancelled .".split()  # noqa: SIM905


def work(run, name, lease_s):
    """Label for ever; a label takes some milliseconds, fails sometimes, is given back sometimes."""
    queue = open_queue(
        run, name, SystemClock(), lease_s=lease_s, retries=1000, retry_delay_s=0.01, rng=random.Random(name)
    )
    rng = random.Random(f"{name} {os.getpid()}")

    def note(what, task_id):
        append_line(run / "log", f"{what} {task_id}")

    while True:
        queue.beat()
        claim = queue.claim()
        if claim is None:
            queue.sweep(every_s=lease_s / 8)
            time.sleep(0.005)
            continue
        task_id = claim.task.id
        note("start", task_id)
        time.sleep(rng.uniform(0, 0.01))
        dice = rng.random()
        if dice < 0.02:
            note("again", task_id)
            queue.fail(claim, "dice", transient=True)
        elif dice < 0.05:
            note("again", task_id)
            queue.give_back(claim, "dice")
        elif queue.complete(claim, make_record(claim.task, energy=-rng.random(), worker=name)):
            note("first", task_id)


class Lab:
    """The supervisor, the operator and the vandal in one."""

    def __init__(self, run, n_tasks, lease_s, told):
        self.run, self.lease_s, self.told = run, lease_s, told
        self.rng = random.Random(42)
        self.tasks = [make_task(number, self.rng.choice([0.5, 3, 3, 40, 2000])) for number in range(n_tasks)]
        self.queue = open_queue(run, "lab", SystemClock(), lease_s=lease_s)
        for task in self.tasks:
            self.queue.publish(task)
        self.children = {}
        self.started = 0

    def start(self, name=None):
        self.started += 1
        name = name or f"w{self.started}"
        pid = os.fork()
        if pid == 0:
            try:
                work(self.run, name, self.lease_s)
            except BaseException as error:
                append_line(self.run / "log", f"error {type(error).__name__}: {error}".replace("\n", " "))
            finally:
                os._exit(1)
        self.children[name] = pid

    def kill(self, name):
        pid = self.children.pop(name)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if self.told:
            self.queue.return_tasks_of(name)

    def kill_one(self):
        name = self.rng.choice(sorted(self.children))
        self.kill(name)
        self.start(self.rng.choice([name, None]))

    def move_one(self):
        """Move a task file by hand: from anywhere to anywhere."""
        files = files_of(self.queue)
        place = self.rng.choice(files[self.rng.choice(sorted(files))]) if files else None
        if place is not None:
            target = self.queue.layout.root / self.rng.choice(PLACES) / Path(place).name
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # a worker was faster
                os.rename(self.queue.layout.root / place, target)

    def stop_one(self):
        """Let a worker sleep for longer than its lease, and wake up."""
        pid = self.children[self.rng.choice(sorted(self.children))]
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5 * self.lease_s)
        os.kill(pid, signal.SIGCONT)

    def free_all(self):
        """Bring what is parked by the vandal back, as an operator would."""
        for state in ("held", "failed", "cancelled", "corrupt"):
            for path in (self.queue.layout.root / state).rglob("*.json"):
                task_id = id_in_name(path.name)
                if task_id and not self.queue.results.exists(task_id):
                    os.rename(path, self.queue.layout.pending / f"{task_id}.json")

    def wait(self, until_s):
        deadline = time.monotonic() + until_s
        while time.monotonic() < deadline:
            if len(set(self.queue.results.ids())) == len(self.tasks):
                return
            self.free_all()
            time.sleep(0.05)

    def converge(self):
        for name in sorted(self.children):
            self.kill(name)
        for _ in range(12):
            self.queue.sweep()
            time.sleep(self.lease_s / 4 if not self.told else 0)

    def report(self):
        lines = [line.split(maxsplit=1) for line in (self.run / "log").read_text().splitlines()]
        firsts = [task_id for what, task_id in lines if what == "first"]
        for task in self.tasks:
            self.queue.results.read(task.id)
        return {
            "tasks": len(self.tasks),
            "results": len(list(self.queue.results.ids())),
            "files": {state: self.queue.counts()[state] for state in STATES},
            "in_one_place": all(len(where) == 1 for where in files_of(self.queue).values()),
            "starts": sum(what == "start" for what, _ in lines),
            "again": sum(what == "again" for what, _ in lines),
            "two_firsts": len(firsts) - len(set(firsts)),
            "errors": [text for what, text in lines if what == "error"],
            "temporary": [p.name for p in self.queue.results.tmp.iterdir()],
        }


def main(run, n_tasks, kills, mode):
    told = mode == "supervised"
    lab = Lab(Path(run), int(n_tasks), 1000.0 if told else 0.6, told)
    for _ in range(N_WORKERS):
        lab.start()
    for number in range(int(kills)):
        time.sleep(lab.rng.uniform(0.002, 0.03))
        lab.kill_one()
        if not told:
            for _ in range(5):
                lab.move_one()
            if number % 20 == 10:
                lab.stop_one()
    lab.wait(60)
    lab.converge()
    print(json.dumps({"kills": int(kills), **lab.report()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
