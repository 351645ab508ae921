"""`autopipe queue`: what people type and see."""

import json

import pytest
from click.testing import CliRunner

from mlip_autopipec.cli.queue import queue as group
from mlip_autopipec.core.errors import NotFoundError, QueueError
from mlip_autopipec.store.rundir import RunDirectory
from queue_tools import make_record, make_task, open_queue


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path)
    run.create()
    run.config_file.write_text(
        "start: {structure: start.xyz, dataset: first.xyz}\n"
        "labeller: {engine: teacher, model: emt}\n"
        "queue: {lease_s: 1}\n"
    )
    return run


@pytest.fixture
def queue(run):
    return open_queue(run.root, "w1")


@pytest.fixture
def tasks(queue):
    """One done, one failed, one pending task."""
    tasks = [make_task(1, 50.0), make_task(2, 20.0), make_task(3, 1.5)]
    for task in tasks:
        queue.publish(task)
    queue.complete(queue.claim(), make_record(tasks[0]))
    queue.fail(queue.claim(), "convergence NOT achieved", transient=False)
    return tasks


def autopipe(run, *args, ok=True):
    result = CliRunner().invoke(group, [args[0], "-C", str(run.root), *args[1:]])
    if ok:
        assert result.exception is None, result.output
    return result


def test_ls(run, tasks):
    rows = json.loads(autopipe(run, "ls", "--json").stdout)
    assert [(row["state"], row["id"], row["gamma"]) for row in rows] == [
        ("pending", tasks[2].id, 1.5),
        ("done", tasks[0].id, 50.0),
        ("failed", tasks[1].id, 20.0),
    ]
    assert all((run.root / row["path"]).exists() for row in rows)
    assert [row["id"] for row in json.loads(autopipe(run, "ls", "--state", "done", "--json").stdout)] == [tasks[0].id]
    text = autopipe(run, "ls").stdout
    assert "3 tasks" in text
    assert tasks[2].id in text.replace("\n", "")
    assert autopipe(run, "ls", "--state", "lost", ok=False).exit_code == 2


def test_ls_of_an_empty_run_writes_nothing(run):
    before = sorted(run.root.rglob("*"))
    assert json.loads(autopipe(run, "ls", "--json").stdout) == []
    assert sorted(run.root.rglob("*")) == before


def test_show(run, tasks):
    facts = json.loads(autopipe(run, "show", tasks[1].id, "--json").stdout)
    assert facts["state"] == "failed"
    assert facts["reason"] == "convergence NOT achieved"
    assert facts["task"] == tasks[1].to_dict()
    assert [event["event"] for event in facts["history"]] == ["claimed", "failed"]
    assert facts["result"] is None
    text = autopipe(run, "show", tasks[1].id[:8]).stdout
    for part in ("failed", "NOT achieved", "gamma     20", '"w00"', "2 atoms (2 Al), 1 learned", "claimed"):
        assert part in text
    done = json.loads(autopipe(run, "show", tasks[0].id, "--json").stdout)
    assert (run.root / done["result"]).exists()
    (run.root / done["path"]).unlink()
    assert json.loads(autopipe(run, "show", tasks[0].id, "--json").stdout)["task"] == tasks[0].to_dict()


def test_show_of_a_corrupt_file(run, queue):
    (run.queue / "dft" / "corrupt").mkdir(parents=True)
    (run.queue / "dft" / "corrupt" / f"{make_task(1).id}.json").write_text("{")
    facts = json.loads(autopipe(run, "show", make_task(1).id, "--json").stdout)
    assert facts["state"] == "corrupt"
    assert facts["task"] is None
    assert "not valid JSON" in facts["unreadable"]
    assert "unreadable" in autopipe(run, "show", make_task(1).id).stdout


@pytest.mark.parametrize("command", ["show", "requeue", "cancel"])
def test_unknown_ids(run, tasks, command):
    error = autopipe(run, command, "zzz", ok=False).exception
    assert isinstance(error, NotFoundError)
    assert error.exit_code == 4


def test_an_ambiguous_prefix_is_a_usage_error(run, tasks):
    result = autopipe(run, "cancel", "", ok=False)
    assert result.exit_code == 2
    assert "could be" in result.output


def test_requeue(run, tasks, queue):
    dry = autopipe(run, "requeue", tasks[1].id[:10], tasks[0].id, "--dry-run").stdout
    assert dry.splitlines() == [
        f"{tasks[1].id}: failed -> pending",
        f"{tasks[0].id}: done -> pending, the old result goes to superseded/",
    ]
    assert queue.state(tasks[1].id) == "failed"
    assert autopipe(run, "requeue", tasks[1].id, tasks[0].id).stdout == dry
    assert [queue.state(task.id) for task in tasks] == ["pending"] * 3


def test_one_wrong_id_changes_nothing(run, tasks, queue):
    autopipe(run, "requeue", tasks[1].id, "zzz", ok=False)
    assert queue.state(tasks[1].id) == "failed"


def test_cancel(run, tasks, queue):
    assert autopipe(run, "cancel", tasks[2].id, "--dry-run").stdout == f"{tasks[2].id}: pending -> cancelled\n"
    assert queue.state(tasks[2].id) == "pending"
    autopipe(run, "cancel", tasks[2].id)
    assert queue.state(tasks[2].id) == "cancelled"
    assert isinstance(autopipe(run, "cancel", tasks[0].id, ok=False).exception, QueueError)


def test_sweep(run, tasks, queue):
    stray = queue.layout.pending / f"{tasks[2].id}.json"
    queue.find(tasks[2].id).rename(stray)
    plan = autopipe(run, "sweep", "--dry-run").stdout
    assert plan == f"{tasks[2].id}: pending -> its bucket\n"
    assert stray.exists()
    assert autopipe(run, "sweep").stdout == plan
    assert not stray.exists()
    assert autopipe(run, "sweep").stdout == ""
