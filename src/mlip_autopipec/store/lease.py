"""Leases: a worker shows that it lives by a counter that moves; others judge by their own monotonic clocks.

No wall clock and no file time of another host is ever compared with one's own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from mlip_autopipec.core.clock import Clock, iso_time
from mlip_autopipec.core.errors import DataError, QueueError
from mlip_autopipec.core.files import write_json
from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.store.document import read_document
from mlip_autopipec.store.layout import Layout, check_worker_name

log = logging.getLogger(__name__)

BEATS_PER_LEASE: Final = 12


def read_lease(layout: Layout, worker: str) -> dict[str, Any] | None:
    """Return a worker's lease, or None if there is none; a damaged file counts as an empty lease."""
    try:
        return read_document(layout.lease_path(worker))
    except FileNotFoundError:
        return None
    except (DataError, OSError):
        return {}


class Lease:
    """The lease of this process' worker.

    Parameters
    ----------
    worker
        Name of the worker; unique among the running workers of all hosts.
    lease_s
        Others take the tasks of a worker whose counter did not move for so long.
    """

    def __init__(self, layout: Layout, worker: str, lease_s: float, clock: Clock) -> None:
        self.worker = check_worker_name(worker)
        self._layout = layout
        self._lease_s = lease_s
        self._clock = clock
        self._own = ProcessIdentity.own()
        self._counter = 0
        self._written: float | None = None

    @property
    def active(self) -> bool:
        """True after the first beat and until `drop`."""
        return self._written is not None

    def beat(self, holding: Collection[str]) -> None:
        """Move the counter and tell which tasks are held; does nothing if the last beat was just now."""
        now = self._clock.monotonic()
        if self._written is not None and now - self._written < self._lease_s / BEATS_PER_LEASE / 2:
            return
        self._counter += 1
        record = {
            "worker": self.worker,
            **self._own.to_dict(),
            "lease_s": self._lease_s,
            "counter": self._counter,
            "holding": sorted(holding),
            "updated": iso_time(self._clock.wall()),
        }
        path = self._layout.lease_path(self.worker)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write_json(path, record, fsync=False)
        except OSError as error:
            # On a full disk the lease runs out and somebody else repeats the label: wasteful, never wrong.
            log.warning("lease of %s not written: %s", self.worker, error)
        self._written = now

    def drop(self) -> None:
        """Remove the lease (clean exit)."""
        if self.active:
            self._layout.lease_path(self.worker).unlink(missing_ok=True)
            self._written = None

    def predecessor(self) -> str:
        """Look at the lease that lies under this worker's name before the first beat.

        Returns
        -------
        str
            "none", "dead" (its process ended), or "unknown" (of another host, boot, container or version of autopipe:
            only time will tell).

        Raises
        ------
        QueueError
            Another living process of this host uses the name.
        """
        lease = read_lease(self._layout, self.worker)
        if not lease:
            return "none"
        identity = ProcessIdentity.from_dict(lease)
        if identity is None or not identity.is_local():
            return "unknown"
        if identity == self._own or not identity.alive():
            return "dead"
        raise QueueError(
            f"worker name {self.worker!r} is in use by process {identity.pid} on this host",
            "give this worker another name",
        )


@dataclass
class _Sight:
    """What was last seen of one lease, and since when it has looked so."""

    lease: dict[str, Any] | None
    since: float


class LeaseWatch:
    """Watches the leases of others from one process.

    Parameters
    ----------
    lease_s
        Patience, s; a lease that announces a longer one gets that.
    """

    def __init__(self, layout: Layout, lease_s: float, clock: Clock) -> None:
        self._layout = layout
        self._lease_s = lease_s
        self._clock = clock
        self._sights: dict[str, _Sight] = {}

    def look(self, worker: str) -> None:
        """Take notice of one worker's lease (or of its absence)."""
        lease = read_lease(self._layout, worker)
        sight = self._sights.get(worker)
        if sight is None or sight.lease != lease:
            self._sights[worker] = _Sight(lease, self._clock.monotonic())

    def is_dead(self, worker: str) -> bool:
        """Look again, and say whether nothing has moved for the lease time."""
        self.look(worker)
        return self._clock.monotonic() - self._sights[worker].since >= self.patience(worker)

    def patience(self, worker: str) -> float:
        """Return the lease that a worker has, as last seen, s."""
        sight = self._sights.get(worker)
        announced = (sight.lease or {}).get("lease_s") if sight else None
        return max(self._lease_s, announced) if isinstance(announced, int | float) else self._lease_s

    def moved(self, worker: str) -> bool:
        """True if the lease was seen to change between two looks: its owner lives."""
        before = self._sights.get(worker)
        self.look(worker)
        return before is not None and before is not self._sights[worker]

    def holding(self, worker: str) -> frozenset[str]:
        """Return the ids that the worker says it holds, as last seen."""
        sight = self._sights.get(worker)
        held = (sight.lease or {}).get("holding") if sight else None
        return frozenset(h for h in held if isinstance(h, str)) if isinstance(held, list) else frozenset()

    def names(self) -> list[str]:
        """Return the workers that have a lease file."""
        try:
            return [p.name.removesuffix(".json") for p in self._layout.leases.iterdir() if _is_lease(p.name)]
        except FileNotFoundError:
            return []

    def forget_others(self, workers: Collection[str]) -> None:
        """Forget all but `workers`: who comes back later gets the full patience again."""
        self._sights = {worker: sight for worker, sight in self._sights.items() if worker in workers}


def _is_lease(name: str) -> bool:
    return name.endswith(".json") and not name.startswith(".")
