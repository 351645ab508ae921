"""Which pending task to try next: the most uncertain, but not the same one as everybody else."""

from __future__ import annotations

import os
import random
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from mlip_autopipec.core.clock import Clock
from mlip_autopipec.core.filesystem import is_gone
from mlip_autopipec.store.layout import Layout, id_in_name

# A long listing is used for a while, so that the cost of a claim does not grow with the number of pending tasks.
_LONG_LISTING: Final = 100
_REUSE_FACTOR: Final = 20.0
# While a long listing is used, more urgent buckets are looked at so often, s.
_URGENT_S: Final = 0.2


@dataclass
class _Listing:
    """Names of one bucket, and how long they may be used.

    Attributes
    ----------
    names : most urgent last (taking from the end is cheap)
    passed : so many of the most urgent are known to be other workers' business first
    """

    bucket: str
    names: list[str]
    good_until: float
    passed: int = 0


class Picker:
    """Offers candidates for claims.

    Parameters
    ----------
    worker
        Name of the worker that claims.
    is_usable
        False for file names that were found unreadable a moment ago.
    """

    def __init__(
        self, layout: Layout, worker: str, clock: Clock, rng: random.Random, is_usable: Callable[[str], bool]
    ) -> None:
        self._layout = layout
        self._worker = worker
        self._pending = str(layout.pending)
        self._clock = clock
        self._rng = rng
        self._is_usable = is_usable
        self._kept: _Listing | None = None
        self._workers, self._rank = 1, 0
        self._look_again = float("-inf")

    def candidates(self) -> Iterator[tuple[str, str, str]]:
        """Iterate over (bucket, file name, id) in `pending/`, until the caller has claimed one.

        Each step takes one of the first 2 W names (W: number of workers), and of twice as many after each miss: the
        most urgent of those that fall to this worker by a hash of the name, or else any. On a listing that is used
        again it goes on from where it was, since the others have taken theirs meanwhile.
        """
        now = self._clock.monotonic()
        if self._kept is not None and now < self._look_again:
            yield from self._candidates_of(self._kept.bucket)
        self._look_again = now
        for bucket in self._buckets():
            if self._kept is not None and bucket == self._kept.bucket:
                # Nothing more urgent a moment ago.
                self._look_again = now + _URGENT_S
            yield from self._candidates_of(bucket)

    def _candidates_of(self, bucket: str) -> Iterator[tuple[str, str, str]]:
        listing = self._kept_listing(bucket)
        fresh = listing is None
        listing = listing or self._list(bucket)
        while True:
            window = listing.passed + 2 * self._workers
            while listing.names:
                name = self._pick(listing, window)
                task_id = id_in_name(name)
                if task_id is not None and self._is_usable(name):
                    yield bucket, name, task_id
                    window *= 2
            if fresh:
                break
            listing, fresh = self._list(bucket), True

    def _pick(self, listing: _Listing, window: int) -> str:
        """Take a name out of a listing that is not empty."""
        names = listing.names
        n_names = min(window, len(names))
        while listing.passed < n_names:
            name = names[-1 - listing.passed]
            if zlib.crc32(name.encode(errors="surrogateescape")) % self._workers == self._rank:
                return names.pop(-1 - listing.passed)
            listing.passed += 1
        listing.passed -= 1
        return names.pop(-1 - self._rng.randrange(n_names))

    def _buckets(self) -> list[str]:
        try:
            with os.scandir(self._pending) as entries:
                return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except OSError as error:
            if not is_gone(error):
                raise
            return []

    def _kept_listing(self, bucket: str) -> _Listing | None:
        kept = self._kept
        good = kept is not None and kept.bucket == bucket and kept.names and self._clock.monotonic() < kept.good_until
        return kept if good else None

    def _list(self, bucket: str) -> _Listing:
        started = time.perf_counter()
        try:
            names = os.listdir(f"{self._pending}/{bucket}")
        except OSError as error:
            if not is_gone(error):
                raise
            names = []
        names.sort(reverse=True)
        cost_s = time.perf_counter() - started
        if names:
            self._count_workers()
        listing = _Listing(bucket, names, self._clock.monotonic() + _REUSE_FACTOR * cost_s)
        if len(names) > _LONG_LISTING:
            self._kept = listing
        return listing

    def _count_workers(self) -> None:
        """Find out how many workers there are, and which of them this one is."""
        try:
            names = sorted(name for name in os.listdir(self._layout.leases) if not name.startswith("."))
        except OSError as error:
            if not is_gone(error):
                raise
            names = []
        own = f"{self._worker}.json"
        self._workers = max(1, len(names))
        self._rank = names.index(own) if own in names else 0
