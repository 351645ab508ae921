"""`autopipe queue retry, hold, release, prioritise, export, import, doctor, stats`."""

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from click.testing import CliRunner

from mlip_autopipec.cli.queue import queue as group
from mlip_autopipec.core.errors import DataError, NotFoundError, QueueError
from mlip_autopipec.core.files import write_json
from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.store.document import dump_document
from mlip_autopipec.store.rundir import RunDirectory
from queue_tools import make_record, make_task, open_queue


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create()
    run.config_file.write_text(
        "start: {structure: start.xyz, dataset: first.xyz}\nlabeller: {engine: teacher, model: emt}\n"
    )
    ase.io.write(run.root / "start.xyz", bulk("Al", cubic=True), format="extxyz")
    ase.io.write(run.root / "first.xyz", [bulk("Al", cubic=True), bulk("Cu", cubic=True)], format="extxyz")
    return run


@pytest.fixture
def queue(run):
    return open_queue(run.root, "w1")


@pytest.fixture
def tasks(queue):
    """One done, two failed, two pending tasks."""
    tasks = [make_task(n, gamma) for n, gamma in ((1, 50.0), (2, 20.0), (3, 6.0), (4, 1.5), (5, 1.2))]
    for task in tasks:
        queue.publish(task)
    queue.complete(queue.claim(), make_record(tasks[0]))
    queue.fail(queue.claim(), "NotConverged: after 100 steps", transient=False)
    queue.fail(queue.claim(), "TimedOut: after 9 s", transient=False)
    return tasks


def autopipe(run, command, *args, code=0):
    result = CliRunner().invoke(group, [command, "-C", str(run.root), *map(str, args)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def snapshot(run):
    return sorted((str(p), p.stat().st_mtime_ns) for p in run.root.rglob("*"))


def test_retry(run, tasks, queue):
    before = snapshot(run)
    dry = autopipe(run, "retry", "--all-failed", "--dry-run").stdout
    assert sorted(dry.split()[0][:-1] for dry in dry.splitlines()) == sorted(t.id for t in tasks[1:3])
    assert snapshot(run) == before
    autopipe(run, "retry", "--all-failed", "--reason", "TimedOut")
    assert [queue.state(t.id) for t in tasks[1:3]] == ["failed", "pending"]
    autopipe(run, "retry", tasks[1].id)
    assert queue.claim().attempt == 1
    assert autopipe(run, "retry", "--all-failed").stdout == ""
    autopipe(run, "retry", code=2)
    autopipe(run, "retry", tasks[1].id, "--all-failed", code=2)
    assert isinstance(autopipe(run, "retry", tasks[0].id, code=1).exception, QueueError)


def test_hold_and_release(run, tasks, queue):
    assert autopipe(run, "hold", tasks[3].id, "--dry-run").stdout == f"{tasks[3].id}: pending -> held\n"
    assert queue.state(tasks[3].id) == "pending"
    autopipe(run, "hold", tasks[3].id, tasks[4].id)
    assert [queue.state(t.id) for t in tasks[3:]] == ["held", "held"]
    assert queue.claim() is None
    autopipe(run, "release", tasks[4].id, "--dry-run")
    assert queue.claim() is None
    autopipe(run, "release", tasks[4].id)
    assert queue.claim().task == tasks[4]
    for command, task, error in (("hold", tasks[0], QueueError), ("release", tasks[4], QueueError)):
        assert isinstance(autopipe(run, command, task.id, code=1).exception, error)
    assert isinstance(autopipe(run, "hold", "0" * 20, code=1).exception, NotFoundError)


def test_prioritise(run, tasks, queue):
    before = queue.find(tasks[4].id)
    autopipe(run, "prioritise", tasks[4].id, "--dry-run")
    assert queue.find(tasks[4].id) == before
    autopipe(run, "prioritise", tasks[4].id)
    assert queue.find(tasks[4].id).parent.name == "00-first"
    autopipe(run, "prioritise", tasks[4].id, "--last")
    assert queue.find(tasks[4].id).parent.name == "99-last"
    autopipe(run, "prioritise", tasks[4].id, "--by-gamma")
    assert queue.find(tasks[4].id) == before
    autopipe(run, "hold", tasks[4].id)
    autopipe(run, "prioritise", tasks[4].id, "--first")
    assert queue.claim().task == tasks[4]
    with pytest.raises(QueueError, match="not a folder name"):
        queue.prioritise(tasks[3].id, "../running")


def test_show_tells_the_whole_history(run, tasks, queue):
    task = tasks[1]
    autopipe(run, "retry", task.id)
    autopipe(run, "hold", task.id)
    autopipe(run, "release", task.id)
    autopipe(run, "prioritise", task.id)
    claim = queue.claim()
    (run.attempt(task.id) / "01-w1").mkdir(parents=True)
    (run.attempt(task.id) / "01-w1" / "pw.out").write_text("JOB DONE")
    queue.complete(claim, make_record(task))
    facts = json.loads(autopipe(run, "show", task.id, "--json").stdout)
    events = [event["event"] for event in facts["history"]]
    assert events == ["claimed", "failed", "requeued", "held", "let_go", "prioritised", "claimed", "done"]
    assert all(event["host"] and event["time"] and event["worker"] for event in facts["history"])
    assert facts["files"] == [f"attempts/{task.id}/01-w1/pw.out"]
    text = autopipe(run, "show", task.id).stdout
    assert "pw.out" in text
    assert "NotConverged: after 100 steps" in text


def test_no_control_characters(run, tasks, queue):
    queue.history.add(tasks[3].id, "given_back", reason="\x1b[2Jgone\x07")
    path = queue.find(tasks[3].id)
    path.rename(path.with_name(f"\x1b[2J-{tasks[3].id}.json"))
    for words in (["show", tasks[3].id], ["ls"], ["doctor"], ["stats"]):
        result = CliRunner().invoke(group, [words[0], "-C", str(run.root), *words[1:]])
        assert "\x1b" not in result.output, words
        assert "\x07" not in result.output


def test_export_and_import(run, tasks, queue, tmp_path):
    out = tmp_path / "out.extxyz"
    autopipe(run, "export", tasks[0].id, out, "--dry-run")
    assert not out.exists()
    text = autopipe(run, "export", tasks[0].id, tasks[3].id[:12], out).stdout
    assert "2 structures, 1 with a label" in text
    labelled, bare = ase.io.read(out, index=":")
    assert labelled.get_potential_energy() == -1.0
    np.testing.assert_array_equal(labelled.get_forces(), np.full((2, 3), 0.5))
    assert bare.calc is None
    assert bare.arrays["force_mask"].tolist() == [1, 0]
    assert labelled.info["gamma"] == 50.0
    assert labelled.info["task_id"] == tasks[0].id


def test_import(run, queue, tmp_path):
    frames = [bulk("Al", cubic=True), bulk("Cu", cubic=True)]
    frames[1].arrays["force_mask"] = np.array([1, 1, 0, 0])
    frames[1].info["gamma"] = 40.0
    file = tmp_path / "in.extxyz"
    ase.io.write(file, [*frames, frames[0]])
    before = snapshot(run)
    dry = autopipe(run, "import", file, "--dry-run").stdout
    assert snapshot(run) == before
    ids = [line.split(":")[0] for line in dry.splitlines()]
    said = autopipe(run, "import", file)
    assert "2 of 3" in said.output
    assert queue.counts()["pending"] == 2
    first = queue.claim().task
    assert (first.id, first.priority, first.force_mask) == (ids[1], 40.0, [1, 1, 0, 0])
    assert first.labeller["engine"] == "teacher"
    second = queue.claim().task
    assert second.origin == {"source": "import", "file": "in.extxyz:1"}
    assert "0 of 3" in autopipe(run, "import", file, "--gamma", 3).output


def test_what_was_exported_is_known_when_it_is_imported(run, queue, tmp_path):
    file = tmp_path / "in.extxyz"
    atoms = bulk("Al", cubic=True)
    atoms.rattle(0.1, seed=1)
    ase.io.write(file, atoms)
    autopipe(run, "import", file)
    (task_id,) = (row[1] for row in queue.ls())
    autopipe(run, "export", task_id, tmp_path / "out.extxyz")
    assert "known already (pending)" in autopipe(run, "import", tmp_path / "out.extxyz").stdout


def test_a_bad_file_publishes_nothing(run, queue, tmp_path):
    atoms = bulk("Al", cubic=True)
    bad = atoms.copy()
    bad.info["gamma"] = -1.0
    ase.io.write(tmp_path / "in.extxyz", [atoms, bad])
    assert isinstance(autopipe(run, "import", tmp_path / "in.extxyz", code=1).exception, DataError)
    (tmp_path / "in.extxyz").write_text("no structure")
    assert isinstance(autopipe(run, "import", tmp_path / "in.extxyz", code=1).exception, DataError)
    assert list(queue.ls()) == []


def test_doctor(run, tasks, queue):
    before = snapshot(run)
    facts = json.loads(autopipe(run, "doctor", "--json", code=3).stdout)
    assert snapshot(run) == before
    assert [(f["level"], f["mend"]) for f in facts if "failed" in f["what"]] == [
        ("warning", "autopipe queue retry --all-failed")
    ]
    autopipe(run, "retry", "--all-failed")
    assert "error" not in autopipe(run, "doctor").stdout
    queue.layout.held.chmod(0o777)
    queue.results.path(tasks[0].id).write_text("{}")
    stray = queue.find(tasks[3].id)
    stray.rename(queue.layout.pending / stray.name)
    lease = {"worker": "w9", **ProcessIdentity.own().to_dict(), "pid": 2**22 + 1, "holding": [], "counter": 1}
    write_json(queue.layout.lease_path("w9"), lease)
    facts = json.loads(autopipe(run, "doctor", "--json", code=3).stdout)
    told = " ".join(f["what"] + " " + f["mend"] for f in facts)
    for part in ("chmod -R o-w", f"requeue {tasks[0].id}", "repairs are due", "worker w9 is dead"):
        assert part in told
    assert [f["level"] for f in facts[:2]] == ["error", "error"]


def test_doctor_of_an_empty_run(run):
    before = snapshot(run)
    assert "no task was ever published" in autopipe(run, "doctor").stdout
    assert snapshot(run) == before


def test_stats(run, tasks, queue):
    queue.claim()
    before = snapshot(run)
    facts = json.loads(autopipe(run, "stats", "--json").stdout)
    assert snapshot(run) == before
    assert facts["counts"]["failed"] == 2
    assert facts["pending_by_bucket"] == {"80-gamma-0": 1}
    assert facts["failures"] == {"NotConverged": 1, "TimedOut": 1}
    assert (facts["results"], facts["labels_last_hour"], facts["labels_last_day"]) == (1, 1, 1)
    assert facts["workers"] == {"w1": 0}  # its next beat tells
    text = autopipe(run, "stats").stdout
    assert "NotConverged" in text
    assert "labels last hour" in text


def test_files_that_tell_their_priority_are_filed_at_once(run, queue):
    """`mv failed/*.json pending/` needs no patience; what has no readable head does."""
    good, half = make_task(1, 40.0), make_task(2, 40.0)
    queue.layout.create()
    text = dump_document(good.to_dict())
    (queue.layout.pending / f"{good.id}.json").write_text(text)
    (queue.layout.pending / f"{half.id}.json").write_text(text[:20])
    assert queue.sweep() == [f"{good.id}: pending -> its bucket"]
    assert queue.find(good.id) == queue.layout.pending_path(40.0, good.id)
    assert queue.claim().task == good
    assert queue.find(half.id).parent == queue.layout.pending
