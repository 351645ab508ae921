"""The end of a batch job: claims stop in time, and a label that cannot be finished goes back."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from worker_parts import Parts, make, new_task

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.daemons.dft_worker import DftWorker
from mlip_autopipec.daemons.settings import SupervisorSettings
from mlip_autopipec.daemons.walltime import Walltime, seconds_until
from mlip_autopipec.runtime.serve import Outcome
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results
from mlip_autopipec.store.rundir import RunDirectory


def test_points_in_time() -> None:
    assert seconds_until("1700000100", 1_700_000_000.0) == 100.0
    assert seconds_until("1970-01-01T00:01:00Z", 20.0) == 40.0
    assert seconds_until("1970-01-01T01:01:00+01:00", 20.0) == 40.0
    assert seconds_until("1970-01-01T00:01:00", 90.0) == -30.0
    for bad in ("soon", "18:00", ""):
        with pytest.raises(ConfigError, match="not a time"):
            seconds_until(bad, 0.0)


def test_no_limit() -> None:
    walltime = Walltime(None, None, 10.0)
    assert not walltime.is_over(0.0)
    assert not walltime.is_over(1e9)
    assert not walltime.must_give_back(1e9)


def test_the_longest_label_so_far_decides_when_to_claim_no_more() -> None:
    walltime = Walltime(None, 110.0, 10.0)
    assert not walltime.is_over(1000.0)
    walltime.finished(40.0)
    walltime.finished(5.0)
    assert not walltime.is_over(1051.0)
    assert walltime.is_over(1053.0)
    assert not walltime.must_give_back(1099.0)
    assert walltime.must_give_back(1100.0)


def test_max_time_ends_claims_only() -> None:
    walltime = Walltime(50.0, None, 10.0)
    assert not walltime.is_over(7.0)
    assert walltime.is_over(57.0)
    assert not walltime.must_give_back(1e6)


@pytest.fixture
def queue(tmp_path: Path) -> TaskQueue:
    run = RunDirectory(tmp_path)
    run.create()
    run.config_file.write_text("")
    return TaskQueue(run.queue / "dft", Results(run.results), worker="test", attempts=run.attempts)


def serve(root: Path, **limits: Any) -> DftWorker:
    """Run a worker to its end, as `runtime.serve` would."""
    config = Parts(supervisor=SupervisorSettings(label_grace_s=0.5))
    worker = DftWorker(RunDirectory(root), config, "dft-0", make=make, **limits)
    worker.start()
    end = time.monotonic() + 60
    while worker.step(time.monotonic()) is not Outcome.DONE:
        assert time.monotonic() < end
        time.sleep(0.01)
    worker.close()
    return worker


def test_a_label_that_cannot_be_finished_goes_back(queue: TaskQueue, tmp_path: Path) -> None:
    task = new_task("program")  # takes 1000 s
    queue.publish(task)
    worker = serve(tmp_path, deadline_s=8.0)
    assert worker.status()[1]["labelled"] == 0
    assert queue.state(task.id) == "pending"
    assert queue.reason(task.id) == "its time is over before the label was done"
    assert [event["event"] for event in queue.history.read(task.id)] == ["claimed", "given_back"]


def test_nothing_is_claimed_when_the_time_is_over(queue: TaskQueue, tmp_path: Path) -> None:
    queue.publish(new_task())
    assert serve(tmp_path, max_time_s=0.0).status()[1]["labelled"] == 0
    assert serve(tmp_path, deadline_s=0.4).status()[1]["labelled"] == 0
    assert serve(tmp_path, deadline_s=1e6, max_tasks=1).status()[1]["labelled"] == 1
    assert queue.history.count(new_task().id, "given_back") == 0


SERVER = """
import signal, sys
sys.path.insert(0, sys.argv[2])
from worker_parts import DftWorker, Parts, Path, launch, make
if __name__ == "__main__":
    sys.exit(launch(Path(sys.argv[1]), "dft-0", lambda run: DftWorker(run, Parts(), "dft-0", make=make),
                    drain_on=[signal.SIGUSR1]))
"""


def test_a_signal_of_ones_own_choice_drains(queue: TaskQueue, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    task = new_task("program")
    queue.publish(task)
    words = [sys.executable, str(tmp_path / "server.py"), str(tmp_path), str(Path(__file__).parent)]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 60
        while queue.state(task.id) != "running":
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGUSR1)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert queue.state(task.id) == "pending"
    assert queue.reason(task.id) == "worker drained before the label was done"
