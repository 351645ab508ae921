"""The dft-worker: labels, failures, crashes, limits, draining, and what a kill leaves."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from worker_parts import Limits, Parts, make, new_task

from mlip_autopipec.core.errors import ConfigError, QueueError
from mlip_autopipec.core.events import read_events
from mlip_autopipec.core.files import read_json, write_json
from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.core.windows import LabelRange
from mlip_autopipec.daemons.dft_worker import DftWorker
from mlip_autopipec.daemons.settings import SupervisorSettings
from mlip_autopipec.runtime.heartbeat import read_heartbeat
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.costs import read_costs
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.references import References, write_references
from mlip_autopipec.store.registry import FILES, Registry
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.task import Task


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = 30) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            pytest.fail(what)
        time.sleep(0.01)
    return value


class Bench:
    """A run directory with a queue, seen by the publisher."""

    def __init__(self, root: Path) -> None:
        self.run = RunDirectory(root)
        self.run.create()
        self.run.config_file.write_text("")
        self.results = Results(self.run.results)
        self.queue = TaskQueue(self.run.queue / "dft", self.results, worker="test", attempts=self.run.attempts)

    def publish(self, *tasks: Task) -> None:
        for task in tasks:
            assert self.queue.publish(task)

    @contextlib.contextmanager
    def worker(self, **options: Any) -> Iterator[DftWorker]:
        config = Parts(
            supervisor=SupervisorSettings(**{"label_grace_s": 0.5, **options.pop("settings", {})}),
            training=options.pop("training", Limits()),
        )
        worker = DftWorker(self.run, config, "dft-0", make=make, **options)
        worker.start()
        try:
            yield worker
        finally:
            worker.close()

    def events(self) -> list[tuple[str, str]]:
        return [(e["event"], e["task_ids"][0]) for e in read_events(self.run.events / "dft-0.jsonl")]


def work(worker: DftWorker, until: Callable[[], bool], timeout_s: float = 30, ahead_s: float = 0.0) -> Outcome:
    """Step until the condition holds or the worker is done; its clock is `ahead_s` ahead of ours."""
    deadline = time.monotonic() + timeout_s
    while True:
        begin = time.monotonic()
        outcome = worker.step(begin + ahead_s)
        assert time.monotonic() - begin < 1.0
        if outcome is Outcome.DONE or until():
            return outcome
        assert time.monotonic() < deadline
        if outcome is Outcome.IDLE:
            time.sleep(0.005)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_labels_the_most_uncertain_first_in_one_child(bench: Bench) -> None:
    tasks = [new_task(gamma=2.0, atoms=2), new_task(gamma=2000.0, atoms=3), new_task(gamma=40.0, atoms=4)]
    bench.publish(*tasks)
    with bench.worker(max_tasks=3) as worker:
        assert work(worker, lambda: False) is Outcome.DONE
        assert worker.status() == ("idle", {"task": None, "labelled": 3, "failed": 0})
    order = [tasks[1], tasks[2], tasks[0]]
    assert bench.events() == [(name, t.id) for t in order for name in ("task_claimed", "label_done")]
    records = [bench.results.read(t.id) for t in order]
    assert [r["energy"] for r in records] == [3.0, 4.0, 2.0]
    assert [r["task"]["force_mask"] for r in records] == [t.force_mask for t in order]
    assert len({r["info"]["pid"] for r in records}) == 1
    assert os.getpid() not in {r["info"]["pid"] for r in records}
    assert bench.queue.counts()["done"] == 3
    assert not list(bench.run.attempts.glob("*/01-*"))  # nothing was written there


def test_output_files_of_an_attempt_stay(bench: Bench) -> None:
    task = new_task("write")
    bench.publish(task)
    with bench.worker(max_tasks=1) as worker:
        work(worker, lambda: False)
    assert (bench.run.attempt(task.id) / "01-dft-0" / "output").read_text() == "converged"


@pytest.mark.parametrize(
    ("do", "state", "reason"),
    [
        ("not-converged", "failed", "NotConverged: SCF stopped after 100 steps (use smaller mixing)"),
        ("nan", "failed", "forces: contains a number that is not finite"),
        ("bug", "failed", "ZeroDivisionError: bug"),
        ("transient", "delayed", "scratch was full"),
        ("segfault", "delayed", "killed by SIGKILL"),
    ],
)
def test_a_failure_is_told_and_the_next_task_is_labelled(bench: Bench, do: str, state: str, reason: str) -> None:
    bad, good = new_task(do, gamma=9.0), new_task(gamma=2.0)
    bench.publish(bad, good)
    with bench.worker(max_tasks=2) as worker:
        work(worker, lambda: False)
    assert bench.queue.state(bad.id) == state
    assert bench.queue.state(good.id) == "done"
    told = read_events(bench.run.events / "dft-0.jsonl")[1]
    assert (told["event"], told["task_ids"]) == ("label_failed", [bad.id])
    assert told["outcome"] == {"failed": "failed", "delayed": "retry"}[state]
    assert reason in told["reason"]
    assert reason in str(bench.queue.reason(bad.id))


def test_a_label_that_takes_too_long_is_killed(bench: Bench) -> None:
    task = new_task("program")
    bench.publish(task)
    with bench.worker(settings={"label_timeout_s": 1000.0}) as worker:
        family = family_of(bench, worker, task)  # however long the child's start takes
        assert worker.step(time.monotonic() + 900.0) is Outcome.IDLE
        work(worker, lambda: bench.queue.state(task.id) == "delayed", ahead_s=1000.0)
        wait_for(lambda: not any(member.alive() for member in family), "somebody survived")
    assert "no label after 1000 s" in str(bench.queue.reason(task.id))


def family_of(bench: Bench, worker: DftWorker | None, task: Task) -> list[ProcessIdentity]:
    """Wait until the program of a `program` task runs; return child and grandchild."""
    file = bench.run.attempt(task.id) / "01-dft-0" / "pid"
    if worker is None:
        wait_for(file.exists, "the program was not started")
    else:
        work(worker, file.exists)
    found = [ProcessIdentity.of(int(pid)) for pid in file.read_text().split()]
    return [identity for identity in found if identity is not None]


def test_a_cancelled_label_is_killed(bench: Bench) -> None:
    task = new_task("program")
    bench.publish(task)
    with bench.worker() as worker:
        family = family_of(bench, worker, task)
        assert len(family) == 2
        bench.queue.cancel(task.id)
        work(worker, lambda: bench.queue.state(task.id) == "cancelled")
        wait_for(lambda: not any(member.alive() for member in family), "somebody survived")


def test_draining_gives_a_long_label_back_and_finishes_a_short_one(bench: Bench) -> None:
    long = new_task("program", gamma=9.0)
    bench.publish(long)
    with bench.worker() as worker:
        family_of(bench, worker, long)
        worker.drain()
        assert work(worker, lambda: False) is Outcome.DONE
    assert bench.queue.state(long.id) == "pending"
    assert bench.events() == [("task_claimed", long.id)]
    bench.queue.cancel(long.id)
    short, other = new_task("slow", gamma=8.0), new_task(gamma=2.0)
    bench.publish(short, other)
    with bench.worker(settings={"label_grace_s": 20.0}) as worker:
        work(worker, lambda: bench.queue.state(short.id) == "running")
        worker.drain()
        assert work(worker, lambda: False) is Outcome.DONE
    assert (bench.queue.state(short.id), bench.queue.state(other.id)) == ("done", "pending")


def test_a_node_without_the_engine_burns_no_attempts(bench: Bench) -> None:
    task = new_task("no-engine")
    bench.publish(task)
    with bench.worker() as worker, pytest.raises(ConfigError, match="was not found"):
        work(worker, lambda: False)
    assert bench.queue.state(task.id) == "pending"


def test_a_paused_run_claims_nothing(bench: Bench) -> None:
    control = Control(bench.run.control)
    control.ask("pause")
    task = new_task()
    bench.publish(task)
    with bench.worker(max_tasks=1) as worker:
        assert [worker.step(time.monotonic()) for _ in range(3)] == [Outcome.IDLE] * 3
        assert worker.status()[0] == "paused"
        control.withdraw("pause")
        work(worker, lambda: False)
    assert bench.queue.state(task.id) == "done"


def test_it_ends_after_its_idle_time(bench: Bench) -> None:
    with bench.worker(idle_timeout_s=5.0) as worker:
        assert [worker.step(now) for now in (100.0, 104.9, 105.0)] == [Outcome.IDLE, Outcome.IDLE, Outcome.DONE]


@pytest.mark.parametrize(
    "trouble", [QueueError("no space left", transient=True), OSError(errno.EIO, "I/O error"), OSError(errno.ESTALE, "")]
)
def test_a_label_waits_for_the_disk_and_is_not_made_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    task = new_task()
    bench.publish(task)
    with bench.worker(max_tasks=1) as worker:
        complete, calls = worker.queue.complete, []

        def full_at_first(claim: Any, record: Any) -> bool:
            calls.append(record)
            if len(calls) == 1:
                raise trouble
            return complete(claim, record)

        monkeypatch.setattr(worker.queue, "complete", full_at_first)
        work(worker, lambda: len(calls) == 1)
        assert worker.step(time.monotonic()) is Outcome.IDLE
        assert worker.step(time.monotonic() + 6.0) is Outcome.WORKED
    assert calls[0] is calls[1]
    assert bench.events() == [("task_claimed", task.id), ("label_done", task.id)]


def test_a_folder_of_results_that_is_missing_for_a_while(bench: Bench) -> None:
    """A real error of the disk: where the folder of this label belongs is a file."""
    task = new_task()
    bench.publish(task)
    in_the_way = bench.run.results / task.id[:2]
    in_the_way.write_text("")
    with bench.worker(max_tasks=1) as worker:
        work(worker, lambda: worker._unsaved is not None)
        in_the_way.unlink()
        assert worker.step(time.monotonic() + 6.0) is Outcome.WORKED
    assert bench.results.read(task.id)["worker"] == "dft-0"


def test_a_worker_that_must_leave_a_broken_disk_asks_to_be_started_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = new_task()
    bench.publish(task)

    def broken(claim: Any, record: Any) -> bool:
        raise OSError(errno.EIO, "I/O error")

    with bench.worker() as worker:
        monkeypatch.setattr(worker.queue, "complete", broken)
        work(worker, lambda: worker._unsaved is not None)
        worker.drain()
        assert worker.step(time.monotonic()) is Outcome.IDLE
        with pytest.raises(QueueError, match="label not written") as caught:
            worker.step(time.monotonic() + 6.0)
    assert caught.value.exit_code == 75
    assert bench.queue.state(task.id) == "pending"


def test_a_label_that_comes_second_is_not_told(bench: Bench) -> None:
    task = new_task("slow")
    bench.publish(task)
    with bench.worker(max_tasks=1) as worker:
        work(worker, lambda: bench.queue.state(task.id) == "running")
        first = bench.queue
        claimed = next(path for _, _, _, path in first.ls("running"))
        record = {**other_record(task), "worker": "other"}
        assert bench.results.write_once(task.id, record)
        assert claimed.exists()
        work(worker, lambda: False)
    assert bench.results.read(task.id)["worker"] == "other"
    assert bench.events() == [("task_claimed", task.id)]


def other_record(task: Task) -> dict[str, Any]:
    from mlip_autopipec.core.interfaces import Label
    from mlip_autopipec.store.results import make_result

    n_atoms = len(task.force_mask)
    return make_result(task, Label(0.0, [[0.0] * 3] * n_atoms, None), "other", task.created)  # type: ignore[arg-type]


# --- as real processes ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def process(bench: Bench) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in a process of its own, beating."""
    heartbeat = bench.run.heartbeats / "dft-0.json"
    heartbeat.unlink(missing_ok=True)
    code = f"import sys; sys.path[:] = {sys.path!r}; import worker_parts; worker_parts.main()"
    started = subprocess.Popen([sys.executable, "-c", code, str(bench.run.root), "dft-0"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (read_heartbeat(heartbeat) or {}).get("state") not in (None, "starting"), "no heartbeat")
        yield started
    finally:
        started.kill()
        started.wait()


def test_sigkill_leaves_no_program_and_loses_no_task(bench: Bench) -> None:
    task = new_task("program")
    bench.publish(task)
    with process(bench) as worker:
        family = family_of(bench, None, task)
        assert len(family) == 2
        worker.send_signal(signal.SIGKILL)
        wait_for(lambda: not any(member.alive() for member in family), "somebody survived")
    assert bench.queue.state(task.id) == "running"
    bench.queue.return_tasks_of("dft-0")  # as the supervisor does
    assert bench.queue.state(task.id) == "pending"


def test_sigterm_drains(bench: Bench) -> None:
    task = new_task("program")
    bench.publish(task)
    with process(bench) as worker:
        family_of(bench, None, task)
        worker.terminate()
        assert worker.wait(30) == 0
    assert bench.queue.state(task.id) == "pending"
    assert read_heartbeat(bench.run.heartbeats / "dft-0.json")["state"] == "stopped"  # type: ignore[index]


def test_an_idle_worker_uses_less_than_two_percent_of_a_core(bench: Bench) -> None:
    with process(bench) as worker:
        share, give_up = 1.0, time.monotonic() + 60
        while share >= 0.02 and time.monotonic() < give_up:  # until the child has imported its engines
            family = [psutil.Process(worker.pid), *psutil.Process(worker.pid).children(recursive=True)]
            before, begin = cpu_seconds(family), time.monotonic()
            time.sleep(3)
            share = (cpu_seconds(family) - before) / (time.monotonic() - begin)
    print(f"an idle dft-worker and its child use {100 * share:.2f} % of a core")
    assert share < 0.02


def cpu_seconds(family: list[psutil.Process]) -> float:
    return sum(sum(member.cpu_times()[:2]) for member in family)


def test_it_does_not_leave_before_a_sweep_has_found_the_last_tasks(bench: Bench) -> None:
    """A task in a place where only a sweep finds it, and an idle time that is over at once."""
    task = new_task()
    bench.publish(task)
    path = bench.queue.find(task.id)
    assert path is not None
    path.rename(bench.queue.layout.root / path.name)
    with bench.worker(idle_timeout_s=0.0) as worker:
        while worker.step(time.monotonic()) is not Outcome.DONE:
            time.sleep(0.01)
    assert bench.queue.state(task.id) == "done"


def test_what_no_sweep_can_repair_does_not_keep_it_for_ever(bench: Bench) -> None:
    bench.queue.layout.create()
    (bench.queue.layout.tmp / f"{new_task().id}.json").write_text("no task")
    with bench.worker(idle_timeout_s=5.0) as worker:
        assert [worker.step(now) for now in (100.0, 105.0, 110.9)] == [Outcome.IDLE] * 3
        assert worker.step(111.1) is Outcome.DONE


def test_what_was_spent_is_written_down_whatever_came_of_it(bench: Bench) -> None:
    good, bad = new_task(gamma=9.0, atoms=3), new_task("not-converged", gamma=5.0)
    twin = Task.new(
        good.atoms(), [1, 0, 0], good.labeller, priority=1.0, origin={}, config_type="seed", created=good.created
    )
    bench.publish(good, bad, twin)
    with bench.worker(max_tasks=3) as worker:
        work(worker, lambda: False)
    costs = {cost.task: cost for cost in read_costs(bench.run.costs)}
    assert {cost.end for cost in costs.values()} == {"done", "failed", "reused"}
    assert [costs[task.id].end for task in (good, bad, twin)] == ["done", "failed", "reused"]
    assert costs[good.id].species == {"Al": 3}
    assert costs[good.id].core_seconds == bench.results.read(good.id)["info"]["wall_s"] > 0
    assert bench.results.read(twin.id)["info"]["reused_from"] == good.id


def test_a_label_outside_a_window_stays_and_passes_once_the_window_is_wider(bench: Bench) -> None:
    task = new_task()
    bench.publish(task)
    with bench.worker(max_tasks=1, training=Limits(force_limit=0.01)) as worker:
        work(worker, lambda: False)
    assert bench.queue.state(task.id) == "failed"
    assert "training.force_limit 0.01 eV/A" in str(bench.queue.reason(task.id))
    pid = read_json(next(bench.run.attempt(task.id).glob("*/refused.json")))["info"]["pid"]
    bench.queue.retry(task.id)
    with bench.worker(max_tasks=1, training=Limits(force_limit=1.0)) as worker:
        work(worker, lambda: False)
    info = bench.results.read(task.id)["info"]
    assert (info["pid"], info["reused_from"]) == (pid, task.id)


def test_what_the_newest_version_knows_makes_surprises(bench: Bench) -> None:
    registry = Registry(bench.run.potentials)
    folder = registry.new_work_folder()
    for name in FILES:
        (folder / name).write_text("{}")
    seen = LabelRange(lowest=-1.0, highest=0.0, largest_force=0.01)
    write_json(folder / "metrics.json", {"label_range": seen.to_dict()})
    registry.publish(folder, {"task_ids": [], "parent": None})
    write_references(registry, References({"Al": 0.2}))
    task = new_task(atoms=2)
    bench.publish(task)
    with bench.worker(max_tasks=1) as worker:
        work(worker, lambda: False)
    told = bench.results.read(task.id)["info"]["flags"]["surprise"]
    assert told == (
        "energy 0.8 eV/atom, labels so far -1 to 0 eV/atom; force 0.173 eV/A, labels so far at most 0.01 eV/A"
    )
