"""Who takes which of the pending tasks."""

import errno
import os

import pytest

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.store import picker
from queue_tools import LEASE_S, converge, make_task, open_queue


@pytest.fixture
def clock():
    return ManualClock()


def workers_of(run, clock, number):
    """Return queues of workers that all know of each other."""
    queues = [open_queue(run, f"w{i}", clock) for i in range(number)]
    for queue in queues:
        queue.claim()
    return queues


@pytest.mark.parametrize("kept", [True, False])
def test_workers_that_list_the_same_names_rarely_run_for_the_same_task(tmp_path, clock, monkeypatch, kept):
    monkeypatch.setattr(picker, "_LONG_LISTING", 10 if kept else 10**6)
    queues = workers_of(tmp_path, clock, 8)
    for number in range(400):
        queues[0].publish(make_task(number))
    # With this clock a listing is good for its own cost, so all of them use their first.
    missed, rename = [], os.rename

    def counting(source, target):
        try:
            rename(source, target)
        except FileNotFoundError:
            missed.append(source)
            raise

    monkeypatch.setattr(os, "rename", counting)
    ids = [queue.claim().task.id for _ in range(25) for queue in queues]
    assert len(set(ids)) == 200
    assert len(missed) < 40


def test_a_worker_alone_takes_the_most_uncertain_first(tmp_path, clock, monkeypatch):
    monkeypatch.setattr(picker, "_LONG_LISTING", 10)
    (queue,) = workers_of(tmp_path, clock, 1)
    gammas = [2.0 + number / 100 for number in range(60)]
    for number, gamma in enumerate(gammas):
        queue.publish(make_task(number, gamma))
    assert [queue.claim().task.priority for _ in gammas] == sorted(gammas, reverse=True)


@pytest.mark.parametrize("kept", [True, False])
def test_the_tasks_of_busy_workers_do_not_wait_for_them(tmp_path, clock, monkeypatch, kept):
    monkeypatch.setattr(picker, "_LONG_LISTING", 10 if kept else 10**6)
    queues = workers_of(tmp_path, clock, 4)
    for number in range(100):
        queues[0].publish(make_task(number, 2.0 + number / 100))
    taken = []
    while (claim := queues[2].claim()) is not None:
        taken.append(claim.task.priority)
        clock.advance(1.0)
    assert len(taken) == 100
    # The first come early and the last come late, though not in strict order.
    first, last = sorted(taken, reverse=True)[:10], sorted(taken)[:10]
    assert sum(map(taken.index, first)) < sum(map(taken.index, last))


def test_whoever_takes_a_task_back_tells_who_had_it(tmp_path, clock):
    lost, finder = workers_of(tmp_path, clock, 2)
    lost.publish(make_task(1))
    lost.claim()
    assert finder.history.read(make_task(1).id) == []
    clock.advance(LEASE_S)
    converge(finder, clock)
    (event,) = finder.history.read(make_task(1).id)
    assert event["event"] == "lost"
    assert (event["of_worker"], event["of_host"]) == ("w0", os.uname().nodename)
    assert event["claimed"].startswith("20")


@pytest.mark.parametrize("removed", ["pending", "bucket", "leases"])
def test_a_folder_that_another_nfs_host_removed_is_empty(tmp_path, clock, monkeypatch, removed):
    queue = open_queue(tmp_path, "w0", clock)
    queue.publish(make_task(1))
    (bucket,) = [path.name for path in queue.layout.pending.iterdir() if any(path.iterdir())]
    gone = bucket if removed == "bucket" else removed

    def stale(function):
        def call(path, *args):
            if os.path.basename(os.fspath(path)) == gone:
                raise OSError(errno.ESTALE, "Stale file handle", path)
            return function(path, *args)

        return call

    monkeypatch.setattr(picker.os, "listdir", stale(os.listdir))
    monkeypatch.setattr(picker.os, "scandir", stale(os.scandir))
    assert (queue.claim() is None) == (removed != "leases")
