"""What everybody who uses the task queue relies on."""

import os

import pytest

from mlip_autopipec.core.clock import ManualClock, SystemClock
from mlip_autopipec.core.errors import DataError, NotFoundError, QueueError
from mlip_autopipec.core.files import write_json
from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.store.document import read_document
from mlip_autopipec.store.layout import STATES
from queue_tools import LEASE_S, converge, files_of, make_record, make_task, open_queue


@pytest.fixture(params=[False, True], ids=["nosync", "fsync"])
def options(request):
    return {"fsync": request.param}


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def queue(tmp_path, clock, options):
    return open_queue(tmp_path, "w1", clock, **options)


@pytest.fixture
def other(tmp_path, clock, options):
    return open_queue(tmp_path, "w2", clock, **options)


def test_looking_writes_nothing(tmp_path, queue):
    assert queue.counts() == dict.fromkeys(STATES, 0)
    assert queue.state("0" * 20) is None
    assert queue.reason("0" * 20) is None
    assert list(queue.ls()) == []
    assert queue.plan() == []
    assert queue.matching("") == []
    assert list(tmp_path.iterdir()) == []


def test_publish_once(queue, other):
    task = make_task(1)
    assert queue.publish(task)
    assert not queue.publish(task)
    assert not other.publish(task)
    assert queue.state(task.id) == "pending"
    assert files_of(queue) == {task.id: [f"pending/70-gamma-2/9397-g3-{task.id}.json"]}


@pytest.mark.parametrize("state", STATES)
def test_publish_knows_an_id_in_every_state(queue, state):
    task = make_task(1)
    queue.publish(task)
    path = queue.find(task.id)
    folder = {"pending": "pending/00-first", "running": "running/w9", "done": f"done/{task.id[:2]}"}.get(state, state)
    name = path.name if state in ("pending", "running", "delayed", "held", "corrupt") else f"{task.id}.json"
    target = queue.layout.root / folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    assert queue.state(task.id) == state
    assert not queue.publish(task)
    assert queue.counts() == {**dict.fromkeys(STATES, 0), state: 1}
    assert [(row[0], row[1]) for row in queue.ls(state)] == [(state, task.id)]


def test_a_claim_is_exclusive(queue, other):
    task = make_task(1)
    queue.publish(task)
    claim = queue.claim()
    assert claim.task == task
    assert claim.attempt == 1
    assert claim.path.parent.name == "w1"
    assert queue.holds(claim)
    assert queue.state(task.id) == "running"
    assert other.claim() is None
    assert queue.claim() is None


def test_the_most_uncertain_comes_first(queue):
    gammas = [0.0, 2.5, 7.0, 450.0, 31.0, 1e12]
    for number, gamma in enumerate(gammas):
        queue.publish(make_task(number, gamma))
    order = [queue.claim().task.priority for _ in gammas]
    assert order == sorted((min(g, 1e9) for g in gammas), reverse=True)


def test_complete(queue, other):
    task = make_task(1)
    queue.publish(task)
    claim = queue.claim()
    record = make_record(task)
    assert queue.complete(claim, record) is True
    assert queue.state(task.id) == "done"
    assert queue.results.read(task.id) == record
    assert list(queue.results.ids()) == [task.id]
    assert files_of(queue) == {task.id: [f"done/{task.id[:2]}/{task.id}.json"]}
    assert not other.publish(task)
    assert other.claim() is None
    assert [e["event"] for e in queue.history.read(task.id)] == ["claimed", "done"]


def test_a_wrong_record_is_refused_and_the_claim_stays(queue):
    task, stranger = make_task(1), make_task(2)
    queue.publish(task)
    claim = queue.claim()
    with pytest.raises(DataError):
        queue.complete(claim, make_record(stranger))
    with pytest.raises(DataError):
        queue.complete(claim, {**make_record(task), "energy": float("nan")})
    assert queue.holds(claim)
    assert queue.complete(claim, make_record(task))


def test_transient_failures_are_tried_again_with_growing_delay_and_then_given_up(queue, clock):
    task = make_task(1)
    queue.publish(task)
    for attempt in (1, 2, 3):
        claim = queue.claim()
        assert claim.attempt == attempt
        assert queue.fail(claim, f"reason {attempt}", transient=True) == "retry"
        assert queue.state(task.id) == "delayed"
        clock.advance(0.7 * 30 * 2 ** (attempt - 1))
        assert queue.claim() is None
        clock.advance(0.6 * 30 * 2 ** (attempt - 1))
    claim = queue.claim()
    assert claim.attempt == 4
    assert queue.fail(claim, "the last one", transient=True) == "failed"
    assert queue.state(task.id) == "failed"
    assert queue.reason(task.id) == "the last one"
    assert read_document(queue.layout.failed / f"{task.id}.reason")["reason"] == "the last one"
    assert queue.claim() is None


def test_a_lasting_failure_is_final(queue):
    task = make_task(1)
    queue.publish(task)
    assert queue.fail(queue.claim(), "no such pseudopotential", transient=False) == "failed"
    assert queue.state(task.id) == "failed"


@pytest.mark.parametrize("by_hand", [False, True])
def test_requeue_of_a_failed_task_renews_its_attempts(queue, by_hand):
    task = make_task(1)
    queue.publish(task)
    queue.fail(queue.claim(), "first", transient=True)
    queue.layout.delayed.joinpath(queue.find(task.id).name).rename(queue.layout.pending_path(3.0, task.id))
    queue.fail(queue.claim(), "second", transient=False)
    if by_hand:
        queue.layout.failed_path(task.id).rename(queue.layout.pending / "00-first" / f"{task.id}.json")
    else:
        assert queue.requeue(task.id) == f"{task.id}: failed -> pending"
        assert not list(queue.layout.failed.iterdir())
    claim = queue.claim()
    assert claim.attempt == 1
    assert queue.fail(claim, "third", transient=True) == "retry"


def test_requeue_of_a_done_task_sets_its_result_aside(queue):
    task = make_task(1)
    queue.publish(task)
    queue.complete(queue.claim(), make_record(task, energy=-1.0))
    assert "superseded" in queue.requeue(task.id, dry_run=True)
    assert queue.state(task.id) == "done"
    queue.requeue(task.id)
    assert queue.state(task.id) == "pending"
    assert queue.complete(queue.claim(), make_record(task, energy=-2.0))
    assert queue.results.read(task.id)["energy"] == -2.0
    assert read_document(queue.results.superseded / f"{task.id}.1.json")["energy"] == -1.0


def test_requeue_of_a_result_without_task_file(queue):
    task = make_task(1)
    queue.publish(task)
    queue.complete(queue.claim(), make_record(task))
    queue.find(task.id).unlink()
    assert queue.state(task.id) == "done"
    queue.requeue(task.id)
    assert queue.claim().task == task


def test_requeue_refuses(queue):
    with pytest.raises(NotFoundError):
        queue.requeue("0" * 20)
    queue.publish(make_task(1))
    assert "already" in queue.requeue(make_task(1).id)
    queue.claim()
    with pytest.raises(QueueError, match="running"):
        queue.requeue(make_task(1).id)


def test_cancel_while_waiting(queue):
    task = make_task(1)
    queue.publish(task)
    queue.cancel(task.id, dry_run=True)
    assert queue.state(task.id) == "pending"
    queue.cancel(task.id)
    assert queue.state(task.id) == "cancelled"
    assert queue.claim() is None
    assert not queue.publish(task)
    with pytest.raises(QueueError, match="cancelled already"):
        queue.cancel(task.id)
    queue.requeue(task.id)
    assert queue.claim().task.id == task.id


@pytest.mark.parametrize("by_hand", [False, True])
def test_cancel_while_running(queue, other, by_hand):
    task = make_task(1)
    queue.publish(task)
    claim = queue.claim()
    assert queue.beat() == []
    if by_hand:
        claim.path.rename(queue.layout.cancelled / f"{task.id}.json")
    else:
        other.cancel(task.id)
    assert queue.cancelled(task.id)
    assert queue.beat() == [task.id]
    queue.give_back(claim, "cancelled")
    assert queue.state(task.id) == "cancelled"
    assert queue.beat() == []


def test_a_label_that_came_before_the_cancellation_was_seen_counts(queue, other):
    task = make_task(1)
    queue.publish(task)
    claim = queue.claim()
    other.cancel(task.id)
    assert queue.complete(claim, make_record(task))
    assert queue.state(task.id) == "done"
    with pytest.raises(QueueError, match="done already"):
        other.cancel(task.id)


def test_a_failure_of_a_cancelled_task_is_a_cancellation(queue, other):
    queue.publish(make_task(1))
    claim = queue.claim()
    other.cancel(claim.task.id)
    assert queue.fail(claim, "killed", transient=True) == "cancelled"
    assert queue.state(claim.task.id) == "cancelled"


def test_cancel_refuses_unknown(queue):
    with pytest.raises(NotFoundError):
        queue.cancel("0" * 20)


def test_give_back_is_no_attempt(queue, other):
    queue.publish(make_task(1))
    before = queue.find(make_task(1).id)
    claim = queue.claim()
    queue.give_back(claim, "SIGTERM")
    assert before.exists()
    assert not queue.holds(claim)
    assert other.claim().attempt == 1


def test_release_gives_back_and_drops_the_lease(queue, other):
    queue.publish(make_task(1))
    queue.claim()
    assert queue.layout.lease_path("w1").exists()
    queue.release()
    assert not queue.layout.lease_path("w1").exists()
    assert not queue.layout.running_folder("w1").exists()
    assert other.claim() is not None
    assert queue.claim() is None
    assert queue.layout.lease_path("w1").exists()


def test_tasks_of_a_dead_worker_come_back_after_its_lease(queue, other, clock):
    task = make_task(1)
    queue.publish(task)
    queue.claim()
    other.sweep()
    clock.advance(LEASE_S - 1)
    assert other.sweep() == []
    clock.advance(1)
    assert other.sweep() == [f"{task.id}: running/w1 -> pending, its worker is gone"]
    assert other.claim().attempt == 1


def test_a_living_worker_keeps_its_tasks(queue, other, clock):
    queue.publish(make_task(1))
    claim = queue.claim()
    for _ in range(40):
        clock.advance(10)
        queue.beat()
        assert other.sweep() == []
    assert queue.holds(claim)


def test_a_zombie_makes_no_second_label(queue, other, clock):
    task = make_task(1)
    queue.publish(task)
    late = queue.claim()
    converge(other, clock)
    claim = other.claim()
    assert other.complete(claim, make_record(task, energy=-2.0))
    assert queue.complete(late, make_record(task, energy=-3.0)) is False
    assert queue.results.read(task.id)["energy"] == -2.0
    assert files_of(queue) == {task.id: [f"done/{task.id[:2]}/{task.id}.json"]}


def test_a_zombie_that_finishes_first_wins(queue, other, clock):
    task = make_task(1)
    queue.publish(task)
    late = queue.claim()
    converge(other, clock)
    claim = other.claim()
    assert queue.complete(late, make_record(task, energy=-3.0)) is True
    assert other.complete(claim, make_record(task, energy=-2.0)) is False
    assert queue.results.read(task.id)["energy"] == -3.0
    assert files_of(queue) == {task.id: [f"done/{task.id[:2]}/{task.id}.json"]}


def test_a_zombie_saves_others_the_work(queue, other, clock):
    task = make_task(1)
    queue.publish(task)
    late = queue.claim()
    converge(other, clock)
    assert queue.state(task.id) == "pending"
    assert queue.complete(late, make_record(task))
    assert files_of(queue) == {task.id: [f"done/{task.id[:2]}/{task.id}.json"]}
    assert other.claim() is None


def test_a_zombies_failure_does_not_touch_the_task(queue, other, clock):
    task = make_task(1)
    queue.publish(task)
    late = queue.claim()
    converge(other, clock)
    assert queue.fail(late, "too late", transient=False) == "lost"
    assert queue.state(task.id) == "pending"
    assert queue.give_back(late, "too late") is None
    claim = other.claim()
    other.complete(claim, make_record(task))
    assert queue.fail(late, "too late", transient=False) == "lost"
    assert queue.state(task.id) == "done"


def test_a_supervisor_returns_the_tasks_of_its_dead_child_at_once(queue, other):
    task = make_task(1)
    queue.publish(task)
    queue.claim()
    assert other.return_tasks_of("w1") == [task.id]
    assert other.return_tasks_of("w1") == []
    assert not queue.layout.lease_path("w1").exists()
    assert other.claim().task == task
    assert "process ended" in queue.reason(task.id)


def test_a_restarted_worker_returns_what_its_predecessor_held(queue, tmp_path, clock, options):
    task = make_task(1)
    queue.publish(task)
    queue.claim()
    restarted = open_queue(tmp_path, "w1", clock, **options)
    assert restarted.claim().task == task


def test_a_name_that_another_process_uses_is_refused(tmp_path):
    queue = open_queue(tmp_path, "w1", SystemClock())
    queue.layout.create()
    parent = os.getppid()
    identity = ProcessIdentity.of(parent)
    write_json(queue.layout.lease_path("w1"), {"worker": "w1", **identity.to_dict(), "counter": 1})
    with pytest.raises(QueueError, match=f"in use by process {parent}"):
        queue.claim()


@pytest.mark.parametrize("changes", [{"start": "0badb007-1-17"}, {"start": None, "process_start": 1.5}])
def test_a_process_of_another_boot_or_of_an_older_version_is_waited_for(tmp_path, clock, changes):
    """Its id says nothing here; the wall clock, by which older versions told starts, may have been set since."""
    queue = open_queue(tmp_path, "w1", clock)
    queue.publish(make_task(1))
    lease = {"worker": "w1", **ProcessIdentity.own().to_dict(), "pid": 2**22 + 1, "counter": 1, **changes}
    write_json(queue.layout.lease_path("w1"), lease)
    assert queue.claim() is None
    clock.advance(LEASE_S)
    assert queue.claim() is not None


def test_a_name_that_another_host_uses_waits_for_the_end_of_its_lease(tmp_path, clock):
    queue = open_queue(tmp_path, "w1", clock)
    queue.publish(make_task(1))
    path = queue.layout.lease_path("w1")
    write_json(path, {"worker": "w1", "pid": 1, "host": "elsewhere", "counter": 1})
    assert queue.claim() is None
    clock.advance(LEASE_S)
    assert queue.claim() is not None
    late = open_queue(tmp_path, "w2", clock)
    path = queue.layout.lease_path("w2")
    write_json(path, {"worker": "w2", "pid": 1, "host": "elsewhere", "counter": 1})
    assert late.claim() is None
    write_json(path, {"worker": "w2", "pid": 1, "host": "elsewhere", "counter": 2})
    with pytest.raises(QueueError, match="another host"):
        late.claim()


def test_a_task_that_takes_its_workers_down_is_given_up(queue, other):
    task = make_task(1)
    queue.publish(task)
    for _ in range(9):
        assert queue.claim() is not None
        other.return_tasks_of("w1")
    assert queue.state(task.id) == "pending"
    claim = other.claim()
    assert claim.attempt == 1
    queue.return_tasks_of("w2")
    assert queue.state(task.id) == "failed"
    assert "10 workers" in queue.reason(task.id)


def test_names_of_workers(tmp_path):
    for bad in ("", ".hidden", "a/b", "a b", "x" * 200):
        with pytest.raises(QueueError, match="worker name"):
            open_queue(tmp_path, bad)


def test_prefixes(queue):
    tasks = [make_task(number) for number in range(5)]
    for task in tasks:
        queue.publish(task)
    assert queue.matching("") == sorted(task.id for task in tasks)
    assert queue.matching(tasks[0].id[:12]) == [tasks[0].id]
    assert queue.matching("zz") == []
    assert queue.unfinished() == 5
