"""Filesystems that lie, are full, or hold things that nobody expects there."""

import errno
import logging
import os
import shutil
import time

import pytest

from mlip_autopipec.core.clock import ManualClock, SystemClock
from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.store import picker, transitions
from mlip_autopipec.store.delay import ServerTime, retry_delay, stamp
from mlip_autopipec.store.layout import task_name
from mlip_autopipec.store.task import Task
from mlip_autopipec.store.transitions import move, priority_of
from queue_tools import LEASE_S, converge, files_of, make_record, make_task, open_queue


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def queue(tmp_path, clock):
    return open_queue(tmp_path, "w1", clock)


def fail_with(code, *, after=False):
    """Return a replacement of os.rename that fails with `code`, before or after doing its work."""
    rename = os.rename

    def broken(source, target):
        if after:
            rename(source, target)
        raise OSError(code, os.strerror(code))

    return broken


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
def test_a_claim_whose_reply_was_lost_is_won(queue, monkeypatch, code):
    task = make_task(1)
    queue.publish(task)
    queue.layout.create()
    monkeypatch.setattr(os, "rename", fail_with(code, after=True))
    claim = queue.claim()
    assert claim.task == task
    assert queue.holds(claim)


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ESTALE])
def test_a_publication_whose_reply_was_lost_is_one(queue, monkeypatch, code):
    queue.layout.create()
    monkeypatch.setattr(os, "rename", fail_with(code, after=True))
    assert queue.publish(make_task(1))
    assert len(files_of(queue)) == 1
    assert list(queue.layout.tmp.iterdir()) == []


def test_a_claim_that_somebody_else_won_is_lost(tmp_path, queue, clock, monkeypatch):
    queue.publish(make_task(1))
    other = open_queue(tmp_path, "w2", clock)
    assert other.claim() is not None
    assert not move(queue.layout.pending_path(3.0, make_task(1).id), tmp_path / "mine", own_target=True)


def test_a_missing_target_folder_is_made(tmp_path):
    (tmp_path / "a").write_text("x")
    assert move(tmp_path / "a", tmp_path / "deep" / "down" / "a")
    assert not move(tmp_path / "a", tmp_path / "deep" / "a")


def test_folders_that_vanish_are_made_again(queue):
    for number in range(3):
        queue.publish(make_task(number))
    claim = queue.claim()
    queue.complete(claim, make_record(claim.task))
    for folder in (queue.layout.running_folder("w1"), queue.layout.tmp, queue.layout.failed):
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()
    assert queue.publish(make_task(7))
    claim = queue.claim()
    assert queue.fail(claim, "test", transient=False) == "failed"


def test_a_full_disk_while_publishing(queue, monkeypatch):
    queue.layout.create()
    real = os.fsync

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    queue._moves._fsync = True
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(QueueError, match="No space") as caught:
        queue.publish(make_task(1))
    assert caught.value.transient
    monkeypatch.setattr(os, "fsync", real)
    assert list(queue.layout.tmp.iterdir()) == []
    assert queue.publish(make_task(1))


def test_a_full_disk_stops_neither_beats_nor_histories(queue, monkeypatch, caplog):
    queue.publish(make_task(1))
    queue.layout.create()

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mlip_autopipec.store.lease.write_json", full)
    monkeypatch.setattr("mlip_autopipec.store.history.append_line", full)
    monkeypatch.setattr("mlip_autopipec.store.transitions.write_json", full)
    claim = queue.claim()
    assert queue.fail(claim, "test", transient=False) == "failed"
    assert queue.state(make_task(1).id) == "failed"
    assert "lease of w1 not written" in caplog.text
    assert "history" in caplog.text
    assert "reason 'test' not written" in caplog.text


def test_a_file_that_cannot_be_moved_does_not_stop_the_others(queue, clock, monkeypatch, caplog):
    bad, good = make_task(1, 50.0), make_task(2, 2.0)
    queue.publish(bad)
    queue.publish(good)
    queue.layout.create()
    rename = os.rename

    def forbidden(source, target):
        if bad.id in str(source):
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", forbidden)
    assert queue.claim().task == good
    assert queue.claim() is None
    assert "Permission denied" in caplog.text
    bad_path = queue.find(bad.id)
    rename(bad_path, queue.layout.done / bad_path.name)
    for _ in range(3):
        queue.sweep()
        clock.advance(LEASE_S)
    monkeypatch.undo()
    queue.sweep()
    assert queue.claim().task == bad


def test_a_file_that_cannot_be_read_now_is_tried_again(queue, clock, monkeypatch, caplog):
    queue.publish(make_task(1))
    read = Task.read

    def stale(path):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Task, "read", stale)
    assert queue.claim() is None
    assert queue.state(make_task(1).id) == "pending"
    monkeypatch.setattr(Task, "read", read)
    clock.advance(LEASE_S)
    assert queue.claim() is not None


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_only_looks_like_a_task(queue, clock, tmp_path, kind):
    task, good = make_task(1, 50.0), make_task(2, 2.0)
    queue.publish(task)
    queue.publish(good)
    path = queue.find(task.id)
    path.rename(tmp_path / "elsewhere.json")
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere.json")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    assert priority_of(path.with_name(f"{task.id}.json")) is None
    claim = queue.claim()
    assert claim.task == good
    queue.complete(claim, make_record(good))
    clock.advance(LEASE_S)
    assert queue.claim() is None
    assert os.path.lexists(queue.layout.corrupt / path.name)
    assert (tmp_path / "elsewhere.json").exists()


def test_long_names(queue, clock):
    task = make_task(1)
    queue.publish(task)
    long = queue.layout.pending / "00-first" / f"{'x' * 220}-{task.id}.json"
    queue.find(task.id).rename(long)
    claim = queue.claim()
    assert queue.fail(claim, "test", transient=True) == "retry"
    assert priority_of(queue.find(task.id)) == 3.0
    clock.advance(100)
    claim = queue.claim()
    queue.complete(claim, make_record(task))
    bad = queue.layout.pending / "00-first" / f"{'ä' * 110}-{task.id}.json"
    bad.write_text("nonsense")
    queue.results.supersede(task.id)
    assert queue.claim() is None
    clock.advance(LEASE_S)
    assert queue.claim() is None
    assert queue.counts()["corrupt"] == 1


def test_control_characters_reach_no_log(queue, clock, caplog):
    caplog.set_level(logging.INFO)
    task = make_task(1)
    queue.publish(task)
    odd = queue.layout.pending / "a\x1b[31m\nb"
    odd.mkdir()
    path = queue.find(task.id)
    path.rename(odd / "deeper\x07.json")
    (odd / "down").mkdir()
    (odd / "deeper\x07.json").rename(odd / "down" / "x\x07.json")
    texts = converge(queue, clock)
    bad = queue.layout.pending / "00-first" / f"\x1b[31m-{make_task(2).id}.json"
    bad.write_text("{}")
    queue.claim()
    clock.advance(LEASE_S)
    queue.claim()
    assert queue.counts()["corrupt"] == 1
    assert queue.state(task.id) in ("pending", "running")
    for text in [*texts, *caplog.messages]:
        assert text.isprintable(), text


def test_corrupt_files_of_one_name_do_not_overwrite_each_other(queue, clock):
    for content in ("one", "two"):
        bad = queue.layout.pending / "00-first" / f"{make_task(1).id}.json"
        bad.parent.mkdir(parents=True, exist_ok=True)
        bad.write_text(content)
        queue.claim()
        clock.advance(LEASE_S)
        queue.claim()
    assert sorted(p.read_text() for p in queue.layout.corrupt.glob("*.json")) == ["one", "two"]
    assert queue.state(make_task(1).id) == "corrupt"
    assert "not valid JSON" in queue.reason(make_task(1).id)


def test_a_mended_file_leaves_corrupt_by_requeue(queue, clock):
    task = make_task(1)
    queue.publish(task)
    path = queue.find(task.id)
    text = path.read_bytes()
    path.write_bytes(text[:100])
    queue.claim()
    clock.advance(LEASE_S)
    queue.claim()
    corrupt = queue.find(task.id)
    assert corrupt.parent == queue.layout.corrupt
    corrupt.write_bytes(text)
    queue.requeue(task.id)
    assert [p.name for p in queue.layout.corrupt.iterdir()] == []
    assert queue.claim().task == task


def test_broken_history_lines_are_left_out(queue):
    task = make_task(1)
    queue.publish(task)
    queue.fail(queue.claim(), "first", transient=True)
    with queue.history.path(task.id).open("ab") as handle:
        handle.write(b'\xff\xfe{"event": "re\n[1]\n')
    assert [e["event"] for e in queue.history.read(task.id)] == ["claimed", "retry"]
    assert queue.history.count(task.id, "retry") == 1


def test_a_damaged_lease_protects_nobody_for_longer_than_a_lease(tmp_path, queue, clock):
    queue.publish(make_task(1))
    queue.claim()
    queue.layout.lease_path("w1").write_text("{half")
    other = open_queue(tmp_path, "w2", clock)
    converge(other, clock)
    assert other.claim() is not None


def test_a_worker_with_a_longer_lease_gets_it(tmp_path, clock):
    slow = open_queue(tmp_path, "slow", clock, lease_s=10 * LEASE_S)
    other = open_queue(tmp_path, "w2", clock)
    slow.publish(make_task(1))
    slow.claim()
    for _ in range(9):
        other.sweep()
        clock.advance(LEASE_S)
    assert slow.state(make_task(1).id) == "running"
    clock.advance(LEASE_S)
    other.sweep()
    assert slow.state(make_task(1).id) == "pending"


def test_one_who_comes_back_gets_the_full_patience(tmp_path, queue, clock):
    """A watcher that saw no lease long ago must not take a returned worker for dead at first sight."""
    other = open_queue(tmp_path, "w2", clock)
    queue.publish(make_task(1))
    queue.claim()
    converge(other, clock)
    clock.advance(10 * LEASE_S)
    other.sweep()
    late = queue.claim()
    queue.layout.lease_path("w1").unlink(missing_ok=True)
    other.sweep()
    assert queue.holds(late)


def test_a_long_listing_is_used_for_several_claims(queue, monkeypatch):
    monkeypatch.setattr(picker, "_LONG_LISTING", 10)
    queue.layout.create()
    for number in range(30):
        queue.publish(make_task(number, 3.0 + number))
    listed = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(str(path)) or listdir(path))
    ids = {queue.claim().task.id for _ in range(30)}
    assert len(ids) == 30
    assert queue.claim() is None
    buckets = ["40-gamma-30", "50-gamma-10", "60-gamma-5", "70-gamma-2"]
    lists = [sum(path.endswith(bucket) for path in listed) for bucket in buckets]
    assert lists[1] < 20  # twenty tasks there
    urgent = make_task(99, 500.0)
    queue.publish(urgent)
    assert queue.claim().task == urgent


def test_names_that_are_gone_from_a_kept_listing_are_passed_over(tmp_path, queue, clock, monkeypatch):
    monkeypatch.setattr(picker, "_LONG_LISTING", 5)
    other = open_queue(tmp_path, "w2", clock)
    for number in range(40):
        queue.publish(make_task(number))
    first = queue.claim()
    others = [other.claim().task.id for _ in range(30)]
    mine = []
    while (claim := queue.claim()) is not None:
        mine.append(claim.task.id)
    assert sorted([first.task.id, *others, *mine]) == sorted(make_task(number).id for number in range(40))


def test_done_is_looked_through_in_turns(queue, clock, monkeypatch):
    tasks = [make_task(number) for number in range(12)]
    for task in tasks:
        queue.publish(task)
        path = queue.find(task.id)
        queue.layout.done_path(task.id).parent.mkdir(exist_ok=True)
        path.rename(queue.layout.done_path(task.id))
    n_shards = len({task.id[:2] for task in tasks})
    assert len(queue.plan()) == 12
    looks = []
    monkeypatch.setattr("mlip_autopipec.store.sweep._DONE_BUDGET_S", 2.5)
    look = queue._sweeper._repairs.done

    def slow(shard):
        looks.append(shard)
        clock.advance(1)
        return look(shard)

    monkeypatch.setattr(queue._sweeper._repairs, "done", slow)
    queue.sweep()
    assert len(looks) == 3
    for _ in range(n_shards):
        queue.sweep()
    assert len(set(looks)) == n_shards
    clock.advance(LEASE_S)
    for _ in range(n_shards):
        queue.sweep()
    assert queue.counts()["pending"] == 12


def test_very_many_pending_are_checked_in_turns(queue, clock, monkeypatch):
    monkeypatch.setattr("mlip_autopipec.store.repairs._MAX_RESULT_CHECKS", 5)
    for number in range(20):
        queue.publish(make_task(number))
        queue.results.write_once(make_task(number).id, make_record(make_task(number)))
    checked = []
    exists = queue.results.exists
    monkeypatch.setattr(queue.results, "exists", lambda task_id: checked.append(task_id) or exists(task_id))
    queue.plan()
    assert 0 < len(set(checked)) < 20
    for _ in range(100):
        clock.advance(LEASE_S / 2)
        queue.sweep()
    assert queue.counts()["done"] == 20


def test_sweep_every(queue, clock):
    queue.publish(make_task(1))
    queue.find(make_task(1).id).rename(queue.layout.root / f"{make_task(1).id}.json")
    assert queue.sweep(every_s=30) == []
    clock.advance(LEASE_S)
    assert queue.sweep(every_s=2 * LEASE_S) == []
    assert len(queue.sweep(every_s=30)) == 1


def test_what_changes_in_between_is_not_touched(queue, clock):
    """A repair needs the same sight for a whole lease without a break."""
    task = make_task(1)
    queue.publish(task)
    home = queue.find(task.id)
    stray = queue.layout.root / home.name
    home.rename(stray)
    queue.sweep()
    clock.advance(0.6 * LEASE_S)
    stray.rename(home)
    queue.sweep()
    home.rename(stray)
    clock.advance(0.6 * LEASE_S)
    assert queue.sweep() == []
    clock.advance(LEASE_S)
    assert len(queue.sweep()) == 1


def test_the_time_of_the_file_server(tmp_path):
    clock = SystemClock()
    server = ServerTime(tmp_path / "tmp", clock)
    assert abs(server.now() - time.time()) < 5
    assert abs(server.now() - time.time()) < 5
    (tmp_path / "file").write_text("")
    assert abs(ServerTime(tmp_path / "file", clock).now() - time.time()) < 5
    assert ServerTime(tmp_path, ManualClock(5.0)).now() == 5.0
    assert stamp(0.5) == "19700101T000001Z"


def test_delays_double_with_jitter():
    import random

    rng = random.Random(1)
    for before in range(4):
        delays = [retry_delay(30.0, before, rng) for _ in range(200)]
        assert 0.75 * 30 * 2**before <= min(delays) < max(delays) <= 1.25 * 30 * 2**before
        assert max(delays) - min(delays) > 0.4 * 30 * 2**before


def test_the_name_of_a_task_survives_a_retry(queue, clock):
    task = make_task(1, 4321.0)
    queue.publish(task)
    queue.fail(queue.claim(), "test", transient=True)
    assert queue.find(task.id).name.endswith(task_name(4321.0, task.id))
    clock.advance(60)
    assert queue.promote() == [task.id]
    assert queue.find(task.id) == queue.layout.pending_path(4321.0, task.id)


def test_a_folder_full_of_rubbish_does_not_hold_a_worker_up(queue, clock, monkeypatch):
    monkeypatch.setattr("mlip_autopipec.store.claims._MAX_REFUSED", 10)
    queue.layout.create()
    for number in range(35):
        (queue.layout.pending / "00-first" / f"{number:020x}.json").write_text("rubbish")
    queue.publish(make_task(1))
    claims = [queue.claim() for _ in range(4)]
    assert claims[:3] == [None] * 3
    assert claims[3].task == make_task(1)
    clock.advance(LEASE_S)
    assert [queue.claim() for _ in range(4)] == [None] * 4
    assert queue.counts()["corrupt"] == 35


def show_outdated(monkeypatch, name, inode_of):
    """Let `name` be seen as NFS shows it to a host that does not know yet that its file went elsewhere."""
    lstat, lexists, read = os.lstat, os.path.lexists, transitions.read_regular
    monkeypatch.setattr(os, "lstat", lambda path: lstat(inode_of() if path == name else path))
    monkeypatch.setattr(os.path, "lexists", lambda path: path == name or lexists(path))
    monkeypatch.setattr(transitions, "read_regular", lambda path, n: read(inode_of() if path == name else path, n))


def test_file_that_is_still_seen_where_it_was_is_no_copy(queue, monkeypatch):
    """Over NFS v3 this removed the only file: it was taken for a copy of itself."""
    task = make_task(1)
    queue.publish(task)
    path = queue.find(task.id)
    old = queue.layout.done_path(task.id)
    show_outdated(monkeypatch, old, lambda: next(queue.layout.root.rglob(f"*{task.id}.json")))
    assert not queue._moves.place(path, old)
    assert files_of(queue)[task.id] == [str(path.relative_to(queue.layout.root))]


def test_keeper_that_goes_while_its_copy_is_removed(queue, monkeypatch):
    """Another host moves the keeper; this one still sees it, and must not remove what is the last file now."""
    task = make_task(1)
    queue.publish(task)
    path = queue.find(task.id)
    keeper, elsewhere = queue.layout.held / path.name, queue.layout.root / "elsewhere"
    shutil.copy(path, keeper)
    shutil.move(keeper, elsewhere)
    show_outdated(monkeypatch, keeper, lambda: elsewhere)
    assert queue._moves.remove_copy(path, keeper)
    assert files_of(queue)[task.id] == [f"held/{path.name}"]


def test_hard_link_is_a_copy(queue):
    task = make_task(1)
    queue.publish(task)
    path = queue.find(task.id)
    other = queue.layout.held / path.name
    os.link(path, other)
    assert queue._moves.remove_copy(path, other)
    assert files_of(queue)[task.id] == [f"held/{path.name}"]


def test_folder_that_another_host_removes_while_it_is_listed(queue, monkeypatch):
    """Over NFS v4.2 this ended a publisher."""
    scandir, stale = os.scandir, queue.layout.running_folder("gone")
    stale.mkdir(parents=True)

    def scan(folder):
        if os.fspath(folder) == os.fspath(stale):
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", scan)
    assert queue.publish(make_task(1))
    assert queue.counts()["pending"] == 1


def test_temporary_result_that_a_sweep_removes_under_a_sleeping_worker(queue, monkeypatch):
    """Over NFS v4.2 this ended a worker that was stopped for longer than its lease."""
    task, link, calls = make_task(1), os.link, []
    queue.publish(task)

    def slow_link(source, target):
        calls.append(source)
        if len(calls) == 1:
            os.unlink(source)
        link(source, target)

    monkeypatch.setattr(os, "link", slow_link)
    assert queue.complete(queue.claim(), make_record(task))
    assert len(calls) == 2
    assert queue.state(task.id) == "done"
