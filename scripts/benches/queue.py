"""The task queue: claims per second and their latency, side by side with huey, kombu and persist-queue."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from mlip_autopipec.cli.tables import print_table
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.core.structure import content_id
from mlip_autopipec.store.document import dump_document
from mlip_autopipec.store.queue import TaskQueue
from mlip_autopipec.store.results import Results, make_result
from mlip_autopipec.store.task import SCHEMA

# Workers are forked: this program has one thread, and importing everything in 16 spawned ones would take longer than
# what is measured.
_FORK = multiprocessing.get_context("fork")
CREATED = "2026-01-01T00:00:00.000Z"
Get = Callable[[], str | None]


def task_text(number: int, atoms: int) -> tuple[str, str]:
    """Return (id, file content) of one valid task."""
    structure = {
        "species": ["Al"] * atoms,
        "positions": [[0.0, 0.0, 2.0 * i + number / 1_000_000] for i in range(atoms)],
        "cell": [[9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [0.0, 0.0, 2.0 * atoms + 8.0]],
        "pbc": [True, True, True],
    }
    labeller, mask = {"engine": "teacher", "model": "emt"}, [1] * atoms
    task_id = content_id(structure, mask, labeller)
    task = {
        "schema": SCHEMA, "id": task_id, "kind": "dft", "created": CREATED, "priority": 3.0, "config_type": "bench",
        "origin": {"walker": "w00"}, "labeller": labeller, "force_mask": mask, "structure": structure,
    }  # fmt: skip
    return task_id, dump_document(task)


# -- the four queues: fill a folder, and take from it ------------------------------------------------------------------


def open_autopipe(folder: Path, worker: str, fsync: bool) -> TaskQueue:
    results = Results(folder / "results", fsync=fsync)
    return TaskQueue(folder / "queue" / "dft", results, worker=worker, fsync=fsync)


def fill_autopipe(folder: Path, texts: list[tuple[str, str]]) -> None:
    layout = open_autopipe(folder, "filler", False).layout
    layout.create()
    for task_id, text in texts:
        layout.pending_path(3.0, task_id).write_text(text)


def take_autopipe(folder: Path, worker: str, fsync: bool) -> Get:
    queue = open_autopipe(folder, worker, fsync)

    def take() -> str | None:
        claim = queue.claim()
        return claim.task.id if claim else None

    return take


def cycle_autopipe(folder: Path, worker: str, fsync: bool) -> Get:
    """Claim, write the result, move the task to done/."""
    queue = open_autopipe(folder, worker, fsync)

    def take() -> str | None:
        claim = queue.claim()
        if claim is None:
            return None
        n_atoms = len(claim.task.force_mask)
        queue.complete(claim, make_result(claim.task, Label(-1.0, np.zeros((n_atoms, 3)), None, {}), worker, CREATED))
        return claim.task.id

    return take


def fill_huey(folder: Path, texts: list[tuple[str, str]]) -> None:
    from huey.storage import FileStorage

    storage = FileStorage("bench", path=str(folder / "huey"))
    for _, text in texts:
        storage.enqueue(text.encode())


def take_huey(folder: Path, worker: str, fsync: bool) -> Get:
    from huey.storage import FileStorage

    storage = FileStorage("bench", path=str(folder / "huey"))

    def take() -> str | None:
        data = storage.dequeue()
        return json.loads(data)["id"] if data else None

    return take


def _kombu(folder: Path) -> Any:
    import kombu

    data = folder / "data"
    data.mkdir(exist_ok=True)
    options = {"data_folder_in": str(data), "data_folder_out": str(data), "control_folder": str(folder / "control")}
    return kombu.Connection("filesystem://", transport_options=options).SimpleQueue("bench")


def fill_kombu(folder: Path, texts: list[tuple[str, str]]) -> None:
    queue = _kombu(folder)
    for _, text in texts:
        queue.put(text)


def take_kombu(folder: Path, worker: str, fsync: bool) -> Get:
    queue = _kombu(folder)
    queue.consumer.qos(prefetch_count=1)  # otherwise the first `get` takes all messages into its memory

    def take() -> str | None:
        try:
            message = queue.get(block=False)
        except queue.Empty:
            return None
        message.ack()
        return json.loads(message.payload)["id"]

    return take


def _persist(folder: Path, auto_commit: bool) -> Any:
    import persistqueue

    return persistqueue.SQLiteAckQueue(str(folder / "persist"), multithreading=True, auto_commit=auto_commit)


def fill_persist(folder: Path, texts: list[tuple[str, str]]) -> None:
    import sqlite3

    queue = _persist(folder, True)
    queue.put(texts[0][1])
    (name,) = [p.name for p in (folder / "persist").iterdir() if p.suffix == ".db"]
    # One commit for all: its own put commits (and syncs) each time.
    with contextlib.closing(sqlite3.connect(folder / "persist" / name)) as base, base:
        (table,) = [r[0] for r in base.execute("select name from sqlite_master where name like 'ack_queue%'")]
        dump = queue._serializer.dumps
        rows = [(dump(text), time.time()) for _, text in texts[1:]]
        base.executemany(f"insert into {table} (data, timestamp, status) values (?, ?, 1)", rows)


def take_persist(folder: Path, worker: str, fsync: bool) -> Get:
    from persistqueue.exceptions import Empty

    queue = _persist(folder, True)

    def take() -> str | None:
        try:
            item = queue.get(block=False, raw=True)
        except Empty:
            return None
        queue.ack(id=item["pqid"])
        return json.loads(item["data"])["id"]

    return take


# name: (fill, take, may a copy of the filled folder share its files by hard links?)
SYSTEMS: dict[str, tuple[Callable[..., None], Callable[..., Get], bool]] = {
    "autopipe": (fill_autopipe, take_autopipe, True),
    "huey": (fill_huey, take_huey, True),
    "kombu": (fill_kombu, take_kombu, True),
    "persist-queue": (fill_persist, take_persist, False),
}


# -- measuring -----------------------------------------------------------------------------------------------------


def _worker(make: Callable[..., Get], cell: tuple[Path, int, bool], limits: Any, answers: Any, ready: Any) -> None:
    folder, number, fsync = cell
    seconds, most = limits
    take = make(folder, f"w{number}", fsync)
    ids, times, errors = [], [], 0
    # The first one opens everything and is not counted.
    with contextlib.suppress(Exception):
        ids.append(take())
    ready.wait()
    begin, cpu = (now := time.perf_counter()), time.process_time()
    while now - begin < seconds and len(times) < most:
        try:
            got = take()
        except Exception:  # what a peer throws when processes meet is counted, not analysed
            errors += 1
            got = None
        after = time.perf_counter()
        if got is not None:
            ids.append(got)
            times.append(after - now)
        now = after
    answers.put((begin, now, times, ids, errors, time.process_time() - cpu))


def measure(make: Callable[..., Get], folder: Path, workers: int, most: int, seconds: float, fsync: bool) -> Any:
    """Let `workers` processes take tasks at once; return what each saw."""
    answers, ready = _FORK.SimpleQueue(), _FORK.Barrier(workers)
    limits = (seconds, max(1, most // workers))
    processes = [
        _FORK.Process(target=_worker, args=(make, (folder, number, fsync), limits, answers, ready))
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    seen = [answers.get() for _ in processes]
    for process in processes:
        process.join()
    return seen


def row_of(seen: list[Any]) -> dict[str, Any]:
    """Return the figures of one cell from what its workers saw in all its rounds."""
    times = np.concatenate([np.asarray(s[2]) for s in seen]) if any(s[2] for s in seen) else np.array([np.nan])
    ids = [task_id for s in seen for task_id in s[3] if task_id]
    return {
        # What does not depend on who else uses the machine.
        "cpu_ms": 1e3 * sum(s[5] for s in seen) / max(1, sum(len(s[2]) for s in seen)),
        "p50_ms": 1e3 * float(np.percentile(times, 50)),
        "p99_ms": 1e3 * float(np.percentile(times, 99)),
        "twice": len(ids) - len(set(ids)),
        "errors": sum(s[4] for s in seen),
    }


def fill(name: str, template: Path, texts: list[tuple[str, str]]) -> None:
    """Fill a folder in a process of its own: kombu's memory of one folder spoils the next."""
    process = _FORK.Process(target=SYSTEMS[name][0], args=(template, texts))
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{name}: its folder could not be filled")


def fresh(template: Path, share: bool) -> Path:
    """Return a copy of a filled folder.

    It stays until the end: ext4 looks long for a new inode where many were freed in the last seconds.
    """
    folder = Path(tempfile.mkdtemp(prefix="cell-", dir=template.parent)) / "run"
    subprocess.run(["cp", "-al" if share else "-a", str(template), str(folder)], check=True)
    return folder


def cell(name: str, make: Callable[..., Get], template: Path, plan: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Measure one cell: rounds, each in a fresh folder, until there are enough claims or the time is up."""
    pending, workers, fsync = plan["pending"], plan["workers"], plan["fsync"]
    seen, claims, wall = [], 0, 0.0
    while wall < seconds and claims < 5000:
        folder = fresh(template, SYSTEMS[name][2])
        # At most half of them, so that "pending" is what the heading says.
        one = measure(make, folder, workers, pending // 2, seconds - wall, fsync)
        seen += [(*s[:3], [f"{wall}:{i}" for i in s[3] if i], *s[4:]) for s in one]
        claims += sum(len(s[2]) for s in one)
        wall += max(s[1] for s in one) - min(s[0] for s in one)
    return {"queue": name, **plan, "claims_per_s": claims / wall, "claims": claims, **row_of(seen)}


def disk(folder: Path) -> dict[str, float]:
    """Return renames/s of one process, and fsyncs/s of small new files."""
    folder.mkdir()
    path, n_renames, n_syncs = folder / "a", 5000, 200
    path.touch()
    begin = time.perf_counter()
    for number in range(n_renames):
        os.rename(path, path := folder / f"n{number}")
    middle = time.perf_counter()
    for number in range(n_syncs):
        with (folder / f"s{number}").open("wb") as handle:
            handle.write(b"x" * 1000)
            handle.flush()
            os.fsync(handle.fileno())
    end = time.perf_counter()
    shutil.rmtree(folder)
    return {"renames_per_s": n_renames / (middle - begin), "fsyncs_per_s": n_syncs / (end - middle)}


COLUMNS = (
    "queue", "pending", "workers", "fsync", "claims_per_s", "cpu_ms", "p50_ms", "p99_ms", "claims", "twice", "errors",
)  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True)
@click.option("--pending", multiple=True, type=int, default=(1000, 10_000, 100_000), show_default=True)
@click.option("--workers", multiple=True, type=int, default=(1, 4, 16), show_default=True)
@click.option("--seconds", default=4.0, show_default=True, help="For each cell.")
@click.option("--atoms", default=2, show_default=True, help="Size of a task.")
@click.option("--only", multiple=True, type=click.Choice(list(SYSTEMS)), default=tuple(SYSTEMS))
@click.option("--folder", type=click.Path(path_type=Path), help="Where to work.  [default: the temporary folder]")
def main(
    as_json: bool, pending: tuple[int, ...], workers: tuple[int, ...], seconds: float, atoms: int,
    only: tuple[str, ...], folder: Path | None,
) -> None:  # fmt: skip
    """Fill, copy, take: a fresh folder for each cell."""
    rows, cycles = [], []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        raw = disk(Path(scratch) / "disk")
        texts = [task_text(number, atoms) for number in range(max(pending))]
        for number in pending:
            for name in only:
                template = Path(scratch) / f"{name}-{number}"
                template.mkdir()
                fill(name, template, texts[:number])
                for count in workers:
                    for fsync in (False, True) if name == "autopipe" else (None,):
                        plan = {"pending": number, "workers": count, "fsync": fsync}
                        rows.append(cell(name, SYSTEMS[name][1], template, plan, seconds))
                        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
                        if name == "autopipe" and number == pending[0]:
                            cycles.append(cell(name, cycle_autopipe, template, plan, seconds))
        after = disk(Path(scratch) / "disk")
    facts: dict[str, Any] = {"load": os.getloadavg()[0]}
    facts |= {"atoms": atoms, "bytes": len(texts[0][1]), "cores": os.cpu_count(), "disk": raw, "disk_after": after}
    if as_json:
        print(json.dumps({**facts, "claims": rows, "cycles": cycles}))
        return
    machine = f"{facts['cores']} cores, load {facts['load']:.1f}"
    print(f"tasks of {atoms} atoms, {facts['bytes']} bytes; {machine}; one process does")
    print(f"{raw['renames_per_s']:.0f} renames/s and {raw['fsyncs_per_s']:.0f} fsyncs/s (before),")
    print(f"{after['renames_per_s']:.0f} and {after['fsyncs_per_s']:.0f} (after)")
    print_table("claims (the fsync of autopipe's setting is not in this path)", COLUMNS, _cells(rows))
    print_table("claim, write the result, move to done", COLUMNS, _cells(cycles))
    _targets(rows)


def _cells(rows: list[dict[str, Any]]) -> list[list[Any]]:
    return [[f"{row[c]:.0f}" if c == "claims_per_s" else row[c] for c in COLUMNS] for row in rows]


def _targets(rows: list[dict[str, Any]]) -> None:
    """Print how far the targets of issue 3 are met, if their cells were measured."""
    own = {(r["pending"], r["workers"]): r for r in rows if r["queue"] == "autopipe" and not r["fsync"]}
    small, large = own.get((1000, 16)), own.get((100_000, 16))
    if small and large:
        ratio = large["claims_per_s"] / small["claims_per_s"]
        print(f"100k/16: {large['claims_per_s']:.0f} claims/s (target 2000), p99 {large['p99_ms']:.0f} ms (target 250)")
        print(f"100k : 1k = {ratio:.2f} (target 0.7)")


if __name__ == "__main__":
    main()
