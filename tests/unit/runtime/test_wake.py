"""A published task wakes an idle worker on a local disk, a child's answer a waiting one; in any trouble it polls."""

import os
import select
import threading
import time

import pytest
import runtime_targets as targets

from mlip_autopipec.core.clock import SystemClock
from mlip_autopipec.runtime import wake
from mlip_autopipec.runtime.child import Child
from mlip_autopipec.runtime.heartbeat import Heartbeat
from mlip_autopipec.runtime.serve import Outcome, serve
from mlip_autopipec.runtime.wake import Waker
from queue_tools import make_task, open_queue

# A first sleep of two minutes and more: only an event can be faster.
NEVER_S = 5000.0


class Claimer:
    """Ends with the first task that it gets; has one published as soon as it is idle."""

    def __init__(self, run):
        self.queue = open_queue(run, "w1", SystemClock(), lease_s=60.0)
        self.publisher = open_queue(run, "p1", SystemClock())
        self.thread = None
        self.task = None

    def start(self):
        self.queue.layout.create()

    def wake_folder(self):
        return self.queue.layout.pending

    def step(self, now):
        claim = self.queue.claim()
        if claim is not None:
            self.task = claim.task
            return Outcome.DONE
        if self.thread is None:
            # The loop goes to sleep after this step.
            self.thread = threading.Timer(0.3, self.publisher.publish, [make_task(1)])
            self.thread.start()
        return Outcome.IDLE

    def drain(self):
        raise AssertionError

    def close(self):
        self.thread.join()
        self.queue.release()


def serve_one(tmp_path, idle_s):
    """Return how long it took to get a task, s."""
    daemon, begin = Claimer(tmp_path / "run"), time.monotonic()
    assert serve(daemon, heartbeat=Heartbeat(tmp_path / "h.json", "w1"), stop=lambda: False, idle_s=idle_s) == 0
    assert daemon.task == make_task(1)
    return time.monotonic() - begin


def test_a_published_task_ends_the_sleep(tmp_path):
    assert serve_one(tmp_path, NEVER_S) < 100


class Asker:
    """Ends with the answer of a child that has been asked in `start`."""

    def start(self):
        self.child = Child(targets.slow_handler, (0.3,), serves=True)
        self.child.send("question")

    def waits_for(self):
        return self.child.sources()

    def step(self, now):
        self.result = self.child.poll()
        return Outcome.DONE if self.result else Outcome.IDLE

    def drain(self):
        raise AssertionError

    def close(self):
        self.child.close()


def test_the_answer_of_a_child_ends_the_sleep(tmp_path):
    daemon, begin = Asker(), time.monotonic()
    assert serve(daemon, heartbeat=Heartbeat(tmp_path / "h.json", "w1"), stop=lambda: False, idle_s=NEVER_S) == 0
    assert daemon.result.value == "question"
    assert time.monotonic() - begin < 100


def refuse(*_):
    raise OSError(28, "inotify watch limit reached")


def missing(*_):
    raise ImportError("watchdog")


@pytest.mark.parametrize(
    ("name", "replacement"),
    [
        ("filesystem_of", lambda _: "nfs4"),
        ("filesystem_of", lambda _: ""),
        ("_observer", refuse),
        ("_observer", missing),
    ],
)
def test_without_events_it_polls(tmp_path, monkeypatch, name, replacement):
    monkeypatch.setattr(wake, name, replacement)
    waker = Waker(tmp_path)
    waker.arm()
    assert not waker.watching
    waker.close()
    serve_one(tmp_path, 0.2)


def test_files_in_folders_that_come_later_wake_too(tmp_path):
    folder = tmp_path / "pending"
    waker = Waker(folder)
    waker.arm()
    assert not waker.watching
    (folder / "bucket").mkdir(parents=True)
    waker.arm()
    assert not waker.arm()
    assert waker.watching
    (tmp_path / "a").touch()
    os.rename(tmp_path / "a", folder / "bucket" / "a")
    assert select.select([waker], [], [], 100)[0]
    waker.clear()
    assert not select.select([waker], [], [], 0)[0]
    os.rename(folder / "bucket" / "a", tmp_path / "a")
    waker.close()
