"""What is wrong with a queue, each with what mends it; and how it is doing, in numbers. Changes nothing."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, Literal

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import read_json
from mlip_autopipec.core.filesystem import filesystem_of, is_shared
from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.store.guard import trespasses
from mlip_autopipec.store.layout import Layout, reason_path
from mlip_autopipec.store.lease import read_lease
from mlip_autopipec.store.queue import TaskQueue

# Attribute caching shows a beat of another host 3 s late and more; twelve beats of ten seconds leave no doubt.
_NFS_LEASE_S: Final = 120.0
_LITTLE_BYTES: Final = 1 << 30

Level = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know; `mend` says what to do about it."""

    level: Level
    what: str
    mend: str = ""


def examine(queue: TaskQueue, lease_s: float) -> list[Finding]:
    """Return what is wrong with a queue, the worst first.

    Parameters
    ----------
    lease_s
        `queue.lease_s` of the run, s.
    """
    layout = queue.layout
    if not layout.root.is_dir():
        return [Finding("note", f"{layout.root}: no task was ever published")]
    found = [Finding("error", what, command) for what, command in trespasses(layout, queue.results.folder)]
    found += _disk(queue, lease_s)
    found += _results(queue)
    found += _workers(layout)
    counts = queue.counts()
    if counts["corrupt"]:
        found.append(Finding("warning", f"{counts['corrupt']} files in corrupt/", f"cat {layout.corrupt}/*.reason"))
    if counts["failed"]:
        found.append(Finding("warning", f"{counts['failed']} tasks failed", "autopipe queue retry --all-failed"))
    if counts["held"]:
        found.append(Finding("note", f"{counts['held']} tasks are parked", "autopipe queue release ID"))
    if plan := queue.plan():
        found.append(Finding("note", f"{len(plan)} repairs are due, e.g. {plan[0]}", "autopipe queue sweep"))
    order = ("error", "warning", "note")
    return sorted(found, key=lambda finding: order.index(finding.level))


def _disk(queue: TaskQueue, lease_s: float) -> list[Finding]:
    layout, found = queue.layout, []
    free = shutil.disk_usage(layout.root).free
    if free < _LITTLE_BYTES:
        found.append(Finding("warning", f"{free / 1e6:.0f} MB of disk are left", "free some space"))
    kind = filesystem_of(layout.root)
    if is_shared(kind) and lease_s < _NFS_LEASE_S:
        what = f"queue.lease_s is {lease_s:g} s on a shared filesystem ({kind})"
        found.append(Finding("warning", what, f"set it to {_NFS_LEASE_S:g}: beats of other hosts are seen late"))
    devices = {p.stat().st_dev for p in (layout.pending, layout.running, layout.done, layout.tmp) if p.is_dir()}
    if len(devices) > 1:
        found.append(Finding("error", f"{layout.root}: its folders are on several filesystems", "put them on one"))
    return found


def _results(queue: TaskQueue) -> list[Finding]:
    """Return the results that cannot be read."""
    found = []
    for task_id in queue.results.ids():
        try:
            queue.results.read(task_id)
        except FileNotFoundError:
            continue
        except (DataError, OSError) as error:
            what = f"results/{task_id[:2]}/{task_id}.json: {error}"
            found.append(Finding("error", what, f"autopipe queue requeue {task_id}"))
    return found


def _workers(layout: Layout) -> list[Finding]:
    """Return the workers of this host that died with tasks in their hands."""
    found = []
    for worker in lease_names(layout):
        lease = read_lease(layout, worker) or {}
        held = len(lease.get("holding") or ())
        identity = ProcessIdentity.from_dict(lease)
        if identity is not None and identity.is_dead():
            what = f"worker {worker} is dead; it holds {held} tasks"
            found.append(Finding("note", what, "they come back after its lease; autopipe queue sweep"))
    return found


def lease_names(layout: Layout) -> list[str]:
    """Return the names of the workers that have a lease."""
    return (
        sorted(p.name.removesuffix(".json") for p in layout.leases.glob("[!.]*.json")) if layout.leases.is_dir() else []
    )


def figures(queue: TaskQueue) -> dict[str, Any]:
    """Return counts by state, bucket, worker and reason of failure, and the labels of the last hour and day."""
    layout = queue.layout
    buckets = Counter(path.parent.name for _, _, _, path in queue.ls("pending"))
    now, ages = time.time(), []
    for task_id in queue.results.ids():
        try:
            ages.append(now - queue.results.path(task_id).stat().st_mtime)
        except FileNotFoundError:
            continue
    holding = {name: len((read_lease(layout, name) or {}).get("holding") or ()) for name in lease_names(layout)}
    return {
        "counts": queue.counts(),
        "pending_by_bucket": dict(sorted(buckets.items())),
        "workers": holding,
        "labels_last_hour": sum(age < 3600 for age in ages),
        "labels_last_day": sum(age < 86_400 for age in ages),
        "results": len(ages),
        "failures": dict(Counter(_reasons(layout)).most_common(10)),
    }


def _reasons(layout: Layout) -> list[str]:
    """Return the kind of each failure: its reason up to the first colon."""
    reasons = []
    for path in layout.failed.glob("*.json") if layout.failed.is_dir() else ():
        try:
            reasons.append(str(read_json(reason_path(path))["reason"]).split(":")[0][:80])
        except (OSError, DataError, KeyError, TypeError):
            reasons.append("not told")
    return reasons
