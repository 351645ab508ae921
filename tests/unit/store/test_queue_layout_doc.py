"""`queue_layout.md` says what the code does: its tables are executed."""

import re
from pathlib import Path

import pytest

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.program import Ended
from mlip_autopipec.engines.espresso.failures import Report
from mlip_autopipec.engines.espresso.outputs import read_label
from mlip_autopipec.store.layout import (
    BUCKETS,
    GAMMA_BUCKETS,
    SERVICE_FOLDERS,
    STATES,
    id_in_name,
    priority_in_name,
    split_not_before,
    task_name,
)
from mlip_autopipec.store.settings import QueueSettings
from mlip_autopipec.store.task import Task
from queue_tools import converge, files_of, make_record, make_task, open_queue

DOCUMENT = Path(__file__).resolve().parents[3] / "queue_layout.md"


def table(first_column):
    """Return the rows of the table whose first heading is `first_column`, without back-ticks."""
    lines = DOCUMENT.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_column} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    return rows


def test_folders():
    states = {row[0].split("/")[0]: row[1] for row in table("Folder")}
    assert states == {**{state: state for state in STATES}, **dict.fromkeys(SERVICE_FOLDERS, "")}


def test_buckets():
    rows = table("Bucket")
    assert [row[0] for row in rows] == list(BUCKETS)
    assert [(row[0], float(row[1])) for row in rows[1:-1]] == list(GAMMA_BUCKETS)


def test_names():
    rows = table("Where")
    told = {state.strip() for row in rows for state in row[0].split(",")}
    assert told == set(STATES) - {"corrupt"}
    for where, _, example in rows:
        stamp, rest = split_not_before(example)
        assert id_in_name(example) is not None
        assert bool(stamp) == (where == "delayed")
        if where.startswith(("pending", "delayed")):
            assert task_name(priority_in_name(rest), id_in_name(rest)) == rest


def test_settings():
    told = re.search(r"`queue.retry_delay_s` \((\d+) s\).*?`queue.retries` \((\d+)\)", DOCUMENT.read_text(), re.DOTALL)
    defaults = QueueSettings()
    assert (float(told[1]), int(told[2])) == (defaults.retry_delay_s, defaults.retries)
    assert f"`queue.lease_s`, {defaults.lease_s:g} s by default" in DOCUMENT.read_text()


def bring(queue, task, state):
    """Bring a task into a state as the queue itself would do it; return its path."""
    queue.publish(task)
    if state == "pending":
        pass
    elif state == "held":
        queue.find(task.id).rename(queue.layout.held / queue.find(task.id).name)
    elif state == "cancelled":
        queue.cancel(task.id)
    elif state == "corrupt":
        queue._moves.to_corrupt(queue.find(task.id), task.id, "test")
    else:
        claim = queue.claim()
        if state in ("delayed", "failed"):
            queue.fail(claim, "test", transient=state == "delayed")
        elif state == "done":
            queue._moves.to_done(claim.path, task.id)
    return queue.find(task.id)


@pytest.mark.parametrize("labelled", [False, True], ids=["no-result", "result"])
@pytest.mark.parametrize("row", table("Moved to"), ids=lambda row: row[0])
def test_moves_by_hand(tmp_path, row, labelled):
    """Every row of the table, from every state, without and with a result."""
    destination, without, with_result = row[0], row[1], row[2]
    clock = ManualClock()
    queue, other = open_queue(tmp_path, "w1", clock), open_queue(tmp_path, "w2", clock)
    wanted = {}
    # "pending" last: the ones before it are claimed on their way.
    sources = {source: make_task(number) for number, source in enumerate(sorted(STATES, key="pending".__eq__))}
    paths = {source: bring(queue, task, source) for source, task in sources.items()}
    for source, task in sources.items():
        path = paths[source]
        target = queue.layout.root / destination / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        if labelled:
            queue.results.write_once(task.id, make_record(task))
        path.rename(target)
        if source != destination.strip("/"):
            wanted[task.id] = with_result if labelled else without
        clock.advance(1)
    converge(other, clock)
    folder_of = {task_id: queue.find(task_id).relative_to(queue.layout.root).parts[0] for task_id in wanted}
    assert folder_of == wanted
    assert all(len(places) == 1 for places in files_of(queue).values())
    for task_id in wanted:
        if "stays in that bucket" in row[3] and not labelled:
            assert queue.find(task_id).parent == queue.layout.root / destination
        assert Task.read(queue.find(task_id)).id == task_id
        assert queue.state(task_id) == ("done" if labelled else wanted[task_id])
    assert other.plan() == []


@pytest.mark.parametrize("destination", [row[0] for row in table("Moved to")])
def test_taking_a_file_from_a_living_worker(tmp_path, destination):
    clock = ManualClock()
    queue, other = open_queue(tmp_path, "w1", clock), open_queue(tmp_path, "w2", clock)
    task = make_task(1)
    queue.publish(task)
    claim = queue.claim()
    target = queue.layout.root / destination / claim.path.name
    target.parent.mkdir(parents=True, exist_ok=True)
    claim.path.rename(target)
    assert not queue.holds(claim)
    assert queue.beat() == ([task.id] if destination == "cancelled/" else [])
    assert queue.complete(claim, make_record(task))
    assert queue.state(task.id) == "done"
    converge(other, clock)
    assert queue.find(task.id) == (target if destination == "corrupt/" else queue.layout.done_path(task.id))


def test_every_other_legal_move_has_a_test():
    """The second table, executed below one by one."""
    assert [row[0] for row in table("Also legal")] == [
        "cp of a task file to another folder",
        "copying a task file into pending/ from elsewhere",
        "a file that is no task in pending/",
        "touch cancel/<id>",
        "renaming a file in front of its id",
        "rm of a task file",
        "rm of a lease",
    ]


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def queue(tmp_path, clock):
    return open_queue(tmp_path, "w1", clock)


@pytest.mark.parametrize("folder", ["pending/00-first", "held", "failed", "delayed", "cancelled"])
def test_a_copy_is_removed(queue, clock, folder):
    task = make_task(1)
    queue.publish(task)
    original = queue.find(task.id)
    (queue.layout.root / folder / original.name).write_bytes(original.read_bytes())
    converge(queue, clock)
    assert len(files_of(queue)[task.id]) == 1
    assert queue.state(task.id) == "pending"


def test_a_copy_with_other_content_is_kept_as_corrupt(queue, clock):
    task = make_task(1)
    queue.publish(task)
    original = queue.find(task.id)
    (queue.layout.held / original.name).write_bytes(original.read_bytes() + b" ")
    converge(queue, clock)
    assert queue.find(task.id) == original
    assert queue.counts()["corrupt"] == 1
    assert "differs" in next(queue.layout.corrupt.glob("*.reason")).read_text()


def test_a_slow_copy_survives(queue, clock):
    task = make_task(1)
    queue.publish(task)
    original = queue.find(task.id)
    text = original.read_bytes()
    original.unlink()
    copy = queue.layout.pending / "00-first" / f"{task.id}.json"
    with copy.open("wb", buffering=0) as handle:
        for start in range(0, len(text), 100):
            handle.write(text[start : start + 100])
            clock.advance(20)
            claim = queue.claim()
            queue.sweep()
            if start + 100 < len(text):
                assert claim is None
                assert copy.exists()
    clock.advance(31)
    claim = claim or queue.claim()
    assert claim.task == task


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 100, b'{"schema": 1}'])
@pytest.mark.parametrize("name", ["0be4ee64733850c89e23.json", "9999-g1-0be4ee64733850c89e23.json", "notes.json"])
def test_what_is_no_task_is_quarantined_after_a_while(queue, clock, name, content):
    queue.publish(make_task(1))
    bad = queue.layout.pending / "00-first" / name
    bad.write_bytes(content)
    assert queue.claim().task == make_task(1)
    queue.sweep()
    assert bad.exists()
    clock.advance(31)
    assert queue.claim() is None
    queue.sweep()
    assert not bad.exists()
    assert (queue.layout.corrupt / name).read_bytes() == content
    assert (queue.layout.corrupt / name).with_suffix(".reason").exists()


def test_a_task_without_its_id_in_the_name_is_named(queue, clock):
    task = make_task(1)
    queue.publish(task)
    queue.find(task.id).rename(queue.layout.pending / "00-first" / "mine.json")
    converge(queue, clock)
    assert queue.find(task.id) == queue.layout.pending / "00-first" / f"{task.id}.json"


@pytest.mark.parametrize("state", ["pending", "delayed", "held"])
def test_touch_of_a_cancel_marker(queue, clock, state):
    task = make_task(1)
    bring(queue, task, state)
    queue.layout.cancel_marker(task.id).touch()
    queue.sweep()
    assert queue.state(task.id) == "cancelled"
    assert list(queue.layout.cancel.iterdir()) == []


def test_touch_of_a_cancel_marker_while_running(queue, clock):
    task = make_task(1)
    bring(queue, task, "running")
    queue.layout.cancel_marker(task.id).touch()
    assert queue.sweep() == []
    assert queue.beat() == [task.id]


def test_a_marker_of_no_task_goes_away(queue, clock):
    bring(queue, make_task(1), "done")
    queue.results.write_once(make_task(1).id, make_record(make_task(1)))
    queue.layout.cancel_marker(make_task(1).id).touch()
    queue.layout.cancel_marker("0" * 20).touch()
    converge(queue, clock)
    assert list(queue.layout.cancel.iterdir()) == []


def test_a_new_name_changes_the_order(queue):
    one, two = make_task(1, 4.0), make_task(2, 3.0)
    queue.publish(one)
    queue.publish(two)
    path = queue.find(two.id)
    path.rename(path.with_name(f"0-{two.id}.json"))
    order = [row[1] for row in queue.ls("pending")]
    assert order == [two.id, one.id]


def test_a_removed_task_is_forgotten_and_can_be_asked_for_again(queue, clock):
    task = make_task(1)
    queue.publish(task)
    queue.find(task.id).unlink()
    assert queue.state(task.id) is None
    assert converge(queue, clock) == []
    assert queue.publish(task)


def test_a_removed_lease(tmp_path, queue, clock):
    other = open_queue(tmp_path, "w2", clock)
    task = make_task(1)
    queue.publish(task)
    claim = queue.claim()
    for alive in (True, False):
        queue.layout.lease_path("w1").unlink()
        for _ in range(11):
            other.sweep()
            clock.advance(10)
            if alive:
                queue.beat()
        assert queue.holds(claim)
    clock.advance(10)
    other.sweep()
    assert queue.state(task.id) == "pending"


def test_keys_of_results():
    told = {key.strip() for row in table("Key") for key in row[0].split(",")}
    assert told == set(make_record(make_task(1)))


def test_keys_of_info(tmp_path):
    """A label of the real pw.x with spin, and all that may be added to it, has no key that is not told."""
    output = (DOCUMENT.parent / "tests" / "data" / "espresso" / "converged.pwo").read_text()
    spin = (
        "     Magnetic moment per site:\n"
        "     atom:    1    charge:    8.4962    magn:    0.7018    constr:    0.0000\n"
        "     total magnetization       =     0.10 Bohr mag/cell\n"
        "     absolute magnetization    =     1.55 Bohr mag/cell\n"
    )
    info = read_label(Report(Ended(0, 1.0), output + spin, "", ""), 4, stress=True).info
    told = {key.strip() for row in table("Key of `info`") for key in row[0].split(",")}
    assert set(info) <= told
    ours = {"labeller", "wall_s", "likeness", "reused_from", "flags", "recheck", "cores", "rungs", "scf"}
    ours |= {"smearing_changed", "engine", "kpoints", "ecutwfc_ry", "ecutrho_ry", "pseudopotentials"}
    assert told == set(info) | ours
    sources = ("stages/label.py", "store/reuse.py", "engines/espresso/attempt.py", "engines/espresso/labeller.py")
    code = "".join((DOCUMENT.parent / "src" / "mlip_autopipec" / name).read_text() for name in sources)
    assert all(f'"{key}"' in code or f"{key}=" in code for key in ours)
