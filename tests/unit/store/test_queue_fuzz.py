"""Mutated task and result files: no crash, no acceptance of nonsense, no escape from the queue's folder."""

import copy
import json
import math
import os
import random
import string

import pytest

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.core.errors import DataError
from mlip_autopipec.store.document import dump_document
from mlip_autopipec.store.task import Task
from queue_tools import LEASE_S, make_record, make_task, open_queue

NASTY = (
    None, True, False, 0, -1, 1e308, -1e-320, 10**400, 2**63, "", "x", "../../etc/passwd", "/etc/passwd", "$(reboot)",
    "\x00", "\x1b[2J", "\ud800", "Al" * 5000, [], {}, [[]], [None], [[1, 2], [3]], {"a": {}}, [1e308] * 3, ["Al"],
    "NaN", "1e5", "2026-13-45T99:00:00Z", "0" * 20, "f" * 20, {"__class__": "os.system"},
)  # fmt: skip
RAW = (
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-", b"{", b"]", b"\xff\xfe", b"\x00", b'"', b"\\u0000", b"[" * 3000,
)  # fmt: skip
NAMES = (
    "{id}.json", "9999-g1-{id}.json", "..{id}.json", "-rf-{id}.json", "\n{id}.json", "\x1b[2J{id}.json",
    "\u00e9-{id}.json", "a b-{id}.json", "x" * 200 + "-{id}.json", "notes.json", "..json", "{id}{id}.json",
    "$(reboot)-{id}.json",
)  # fmt: skip


def places(value, path=()):
    """Return the paths of all values inside a JSON value."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found += places(item, (*path, key))
    return found


def nasty(rng):
    return copy.deepcopy(rng.choice(NASTY))


def mutate_value(rng, text):
    """Change, remove, add or swap values."""
    data = json.loads(text)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        *way, last = rng.choice(places(data))
        owner = data
        try:
            for key in way:
                owner = owner[key]
            action = rng.randrange(5)
            if action == 0:
                del owner[last]
            elif action == 1 and isinstance(owner, dict):
                owner[rng.choice(["id", "command", "path", "schema", "x", ""])] = nasty(rng)
            elif action == 2 and isinstance(owner[last], int | float):
                owner[last] = owner[last] * rng.choice([-1, 1 + 1e-9, 2, 1e300]) + rng.choice([0, 0, 1e-3])
            elif action == 3 and isinstance(owner, list):
                owner.insert(last, copy.deepcopy(rng.choice([owner[last], nasty(rng)])))
            else:
                owner[last] = nasty(rng)
        except (KeyError, IndexError, TypeError, OverflowError):
            continue  # an earlier change took this place away, or left a number that is too large
    return json.dumps(data, indent=rng.choice([None, 1])).encode()


def mutate_bytes(rng, data):
    """Flip, cut, repeat or insert bytes."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(out) + 1)
        action = rng.randrange(5)
        if action == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif action == 1:
            del out[at:]
        elif action == 2:
            del out[at : at + rng.randrange(1, 40)]
        elif action == 3:
            out[at:at] = rng.choice([*RAW, rng.choice(string.printable).encode()])
        else:
            begin = rng.randrange(len(out) + 1)
            out[at:at] = out[begin : begin + rng.randrange(200)]
    return bytes(out)


def mutated(rng, text):
    return mutate_value(rng, text) if rng.random() < 0.6 else mutate_bytes(rng, text.encode())


def check_sense(task, original):
    """What was accepted under an id is what the id stands for, and the rest is within its limits."""
    assert task.id == original.id
    assert task.labeller == original.labeller
    assert task.force_mask == original.force_mask
    assert all(type(m) is int for m in task.force_mask)
    assert task.structure["species"] == original.structure["species"]
    assert task.structure["pbc"] == original.structure["pbc"]
    for key in ("positions", "cell"):
        rows = zip(task.structure[key], original.structure[key], strict=True)
        assert all(abs(a - b) <= 1.01e-6 for one, two in rows for a, b in zip(one, two, strict=True))
    assert 0 <= task.priority <= 1e9
    assert task.schema == 1
    assert task.kind == "dft"
    assert task.config_type.isascii()
    assert task.config_type.isprintable()
    assert isinstance(task.origin, dict)
    json.dumps(task.to_dict(), allow_nan=False)
    task.atoms()


def read_mutants(tmp_path, seed, number):
    """Task files by themselves; return how many were accepted."""
    rng, accepted = random.Random(seed), 0
    originals = [make_task(n, 1.0 + n) for n in range(20)]
    for _ in range(number):
        original = rng.choice(originals)
        path = tmp_path / f"{original.id}.json"
        path.write_bytes(mutated(rng, dump_document(original.to_dict())))
        try:
            task = Task.read(path)
        except DataError:
            continue
        check_sense(task, original)
        accepted += 1
    return accepted


def read_result_mutants(tmp_path, seed, number):
    """Result files; return how many were accepted."""
    rng, accepted = random.Random(seed), 0
    queue = open_queue(tmp_path / "run", "w1")
    original = make_task(1)
    record = make_record(original)
    queue.results.write_once(original.id, record)
    text = dump_document(record)
    for _ in range(number):
        queue.results.path(original.id).write_bytes(mutated(rng, text))
        try:
            got = queue.results.read(original.id)
        except DataError:
            continue
        check_sense(Task.from_dict(got["task"]), original)
        assert math.isfinite(got["energy"])
        assert [len(row) for row in got["forces"]] == [3, 3]
        assert all(math.isfinite(x) for row in [*got["forces"], got["stress"] or []] for x in row)
        accepted += 1
    return accepted


def put(rng, folder, text, task_id, outside):
    """Put one bad file into `folder`: bytes, or something that is no file at all."""
    path = folder / rng.choice(NAMES).format(id=task_id)
    if os.path.lexists(path):
        return
    kind = rng.randrange(12)
    if kind == 0:
        path.symlink_to(outside / "secret.json")
    elif kind == 1:
        path.symlink_to(outside)
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        path.mkdir()
    else:
        path.write_bytes(mutated(rng, text))


def look(folder):
    return sorted((str(p), p.lstat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in folder.rglob("*"))


def work_through(tmp_path, seed, number):
    """A worker, its sweep and the commands that read, on a queue full of bad files; return (good, corrupt)."""
    rng, clock = random.Random(seed), ManualClock()
    outside = tmp_path / "outside"
    outside.mkdir()
    stranger = make_task(999)
    (outside / "secret.json").write_text(dump_document(stranger.to_dict()))
    before = look(outside)
    run = tmp_path / "run"
    queue = open_queue(run, "w1", clock)
    queue.layout.create()
    originals = {task.id: task for task in (make_task(n, 2.0) for n in range(40))}
    folders = [queue.layout.root / f for f in ("pending/00-first", "pending", "held", "delayed", "failed", "running/x")]
    folders[-1].mkdir(parents=True)
    for _ in range(number):
        task = rng.choice(list(originals.values()))
        put(rng, rng.choice([folders[0], folders[0], *folders]), dump_document(task.to_dict()), task.id, outside)
    good = 0
    for _ in range(12 + number // 50):
        clock.advance(LEASE_S / 2)
        while (claim := queue.claim()) is not None:
            check_sense(claim.task, originals[claim.task.id])
            queue.complete(claim, make_record(claim.task))
            good += 1
        queue.sweep()
    queue.plan()
    list(queue.ls())
    assert look(outside) == before
    assert not queue.results.exists(stranger.id)
    assert {p.name for p in tmp_path.iterdir()} == {"outside", "run"}
    assert {p.name for p in run.iterdir()} <= {"queue", "results", "attempts"}
    assert {p.name for p in queue.layout.root.iterdir()} == {
        "pending", "delayed", "held", "running", "done", "failed", "cancelled", "corrupt", "cancel", "leases", "tmp",
    }  # fmt: skip
    left = [p for p in queue.layout.pending.rglob("*.json") if not p.is_dir() and not p.name.startswith(".")]
    assert left == []
    queue.release()
    return good, queue.counts()["corrupt"]


def fuzz(tmp_path, scale):
    for part in ("a", "b", "c"):
        (tmp_path / part).mkdir()
    accepted = read_mutants(tmp_path / "a", 1, 50 * scale)
    assert 0 < accepted < 25 * scale  # a changed priority or origin is no nonsense
    assert 0 < read_result_mutants(tmp_path / "b", 2, 35 * scale) < 20 * scale
    good, corrupt = work_through(tmp_path / "c", 3, 15 * scale)
    assert good > 0
    assert corrupt > scale


def test_two_thousand_bad_files(tmp_path):
    fuzz(tmp_path, 20)


@pytest.mark.slow
def test_ten_thousand_bad_files(tmp_path):
    fuzz(tmp_path, 100)
