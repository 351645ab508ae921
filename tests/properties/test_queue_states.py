"""Whatever workers, crashes and hands do in whatever order: every task is in one place, and has one label at most."""

import contextlib
import os
import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.errors import NotFoundError, QueueError
from mlip_autopipec.store.layout import STATES
from queue_tools import LEASE_S, files_of, make_record, make_task, open_queue

WORKERS = ("w1", "w2", "w3")
TASKS = [make_task(number, gamma) for number, gamma in enumerate((0.0, 1.5, 3.0, 3.0, 40.0, 5000.0))]
FOLDERS = ["pending", "pending/00-first", "pending/mine", "delayed", "held", "running", "running/w1", "running/gone"]
FOLDERS += ["done", "done/00", "failed", "failed/deeper", "cancelled", "corrupt", "cancel", "leases", "tmp", "."]
# Where publishing does not look, for it must cost the same at a million tasks; the sweep removes the copy.
NUMBERS = st.integers(0, len(TASKS) - 1)
ODD = ("done/", "failed/deeper/", "cancel/", "leases/", "tmp/")
CALLS = ("rename", "link", "replace", "unlink", "fsync", "mkdir", "rmdir")


class Killed(BaseException):
    """Stands for SIGKILL."""


@contextlib.contextmanager
def killed_at_call(number):
    """Let the process end at its n-th change of the filesystem: neither that call nor any later one is done."""
    real = {name: getattr(os, name) for name in CALLS}
    left = [number]

    def limited(function):
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return function(*args, **kwargs)

        return call

    for name, function in real.items():
        setattr(os, name, limited(function))
    try:
        yield
    except Killed:
        pass
    finally:
        for name, function in real.items():
            setattr(os, name, function)


class QueueMachine(RuleBasedStateMachine):
    """Three workers and a person on one queue, with a clock that moves only when told."""

    claims = Bundle("claims")

    def __init__(self):
        super().__init__()
        self.run = Path(tempfile.mkdtemp(prefix="queue-states-"))
        self.clock = ManualClock()
        self.published = set()
        self.labels = {}
        self.number = 0
        self.queues = {name: self.open(name) for name in WORKERS}
        self.watcher = self.open("watcher")
        self.watcher.layout.create()

    def open(self, name):
        return open_queue(self.run, name, self.clock, rng=random.Random(0))

    # -- what workers do -------------------------------------------------------------------------------------------

    @rule(task_number=NUMBERS, worker=st.sampled_from(WORKERS))
    def publish(self, task_number, worker):
        task = TASKS[task_number]
        place = files_of(self.watcher).get(task.id, [""])[0]
        odd = place.startswith(ODD) or (place and "/" not in place)
        if odd and not self.watcher.layout.done_path(task.id).exists():
            return
        known = bool(place)
        assert self.queues[worker].publish(task) is not known
        self.published.add(task.id)

    @rule(target=claims, worker=st.sampled_from(WORKERS))
    def claim(self, worker):
        claim = self.queues[worker].claim()
        if claim is None:
            return multiple()
        assert claim.path.parent.name == worker
        assert claim.task.id not in self.labels or not self.queues[worker].results.exists(claim.task.id)
        return self.queues[worker], claim

    @rule(claimed=consumes(claims))
    def complete(self, claimed):
        queue, claim = claimed
        self.number += 1
        before = queue.results.exists(claim.task.id)
        first = queue.complete(claim, make_record(claim.task, energy=-float(self.number)))
        assert first is not before
        self.see_labels()

    @rule(claimed=consumes(claims), transient=st.booleans())
    def fail(self, claimed, transient):
        queue, claim = claimed
        assert queue.fail(claim, "test", transient=transient) in ("retry", "failed", "lost", "cancelled")

    @rule(claimed=consumes(claims))
    def give_back(self, claimed):
        queue, claim = claimed
        queue.give_back(claim, "test")

    @rule(worker=st.sampled_from(WORKERS))
    def beat(self, worker):
        if self.queues[worker].layout.lease_path(worker).exists():
            self.queues[worker].beat()

    @rule(worker=st.sampled_from(WORKERS))
    def release(self, worker):
        self.queues[worker].release()

    @rule(seconds=st.sampled_from([1.0, 10.0, LEASE_S / 2, LEASE_S, 3 * LEASE_S]))
    def wait(self, seconds):
        self.clock.advance(seconds)

    @rule(worker=st.sampled_from([*WORKERS, "watcher"]))
    def sweep(self, worker):
        (self.queues.get(worker) or self.watcher).sweep()

    # -- what goes wrong -------------------------------------------------------------------------------------------

    @rule(worker=st.sampled_from(WORKERS), told=st.booleans())
    def crash(self, worker, told):
        self.queues[worker] = self.open(worker)
        if told:
            self.watcher.return_tasks_of(worker)

    @rule(worker=st.sampled_from(WORKERS), task_number=NUMBERS, number=st.integers(0, 8), what=st.integers(0, 7))
    def crash_inside(self, worker, task_number, number, what):
        task = TASKS[task_number]
        queue = self.queues[worker]
        self.number += 1
        with killed_at_call(number), contextlib.suppress(QueueError, NotFoundError):
            if what == 0 and task.id not in self.published:
                queue.publish(task)
            elif what == 1:
                queue.sweep()
            elif what == 2:
                queue.requeue(task.id)
            elif what == 3:
                queue.cancel(task.id)
            elif (claim := queue.claim()) is not None:
                if what == 4:
                    queue.complete(claim, make_record(claim.task, energy=-float(self.number)))
                elif what == 5:
                    queue.fail(claim, "test", transient=bool(number % 2))
                elif what == 6:
                    queue.give_back(claim, "test")
        self.queues[worker] = self.open(worker)
        self.published |= files_of(self.watcher).keys()
        if what == 2:
            self.labels = {i: text for i, text in self.labels.items() if queue.results.exists(i)}
        self.see_labels()

    # -- what people do --------------------------------------------------------------------------------------------

    @rule(task_number=NUMBERS, folder=st.sampled_from(FOLDERS), bare=st.booleans())
    def move_by_hand(self, task_number, folder, bare):
        task = TASKS[task_number]
        for place in files_of(self.watcher).get(task.id, []):
            path = self.watcher.layout.root / place
            target = self.watcher.layout.root / folder / (f"{task.id}.json" if bare else path.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)

    @rule(task_number=NUMBERS)
    def requeue(self, task_number):
        task = TASKS[task_number]
        with contextlib.suppress(QueueError, NotFoundError):
            self.watcher.requeue(task.id)
            self.labels.pop(task.id, None)

    @rule(task_number=NUMBERS)
    def cancel(self, task_number):
        task = TASKS[task_number]
        with contextlib.suppress(QueueError, NotFoundError):
            self.watcher.cancel(task.id)

    # -- what must hold --------------------------------------------------------------------------------------------

    def see_labels(self):
        """Labels that have been seen never change (except by requeue)."""
        for task_id in self.watcher.results.ids():
            text = self.watcher.results.path(task_id).read_bytes()
            assert self.labels.setdefault(task_id, text) == text

    @invariant()
    def every_task_is_in_one_place(self):
        places = files_of(self.watcher)
        assert {task_id: len(where) for task_id, where in places.items()} == dict.fromkeys(self.published, 1)

    @invariant()
    def labels_stay(self):
        self.see_labels()
        assert set(self.labels) == set(self.watcher.results.ids())

    def teardown(self):
        for _ in range(6):
            self.watcher.sweep()
            self.clock.advance(LEASE_S)
        self.every_task_is_in_one_place()
        self.labels_stay()
        assert self.watcher.plan() == []
        for task_id in self.published:
            path = self.watcher.find(task_id)
            state = path.relative_to(self.watcher.layout.root).parts[0]
            assert state in STATES
            # The lease of everybody has run out, so nothing is running; done is what has a label, and nothing else.
            assert state not in ("running", "delayed")
            if state != "corrupt":
                assert (state == "done") == (task_id in self.labels)
        root = self.watcher.layout.root
        leftovers = [p.name for folder in ("tmp", "cancel", "leases", "running") for p in (root / folder).iterdir()]
        assert leftovers == []
        shutil.rmtree(self.run)


TestQueueStates = QueueMachine.TestCase
TestQueueStates.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
