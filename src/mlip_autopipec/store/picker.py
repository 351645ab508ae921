"""Which pending task to try next: the most uncertain, but not the same one as everybody else."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlip_autopipec.core.clock import Clock
from mlip_autopipec.store.layout import Layout, id_in_name

# A long listing is used for a while, so that the cost of a claim does not grow with the number of pending tasks.
_LONG_LISTING: Final = 100
_REUSE_FACTOR: Final = 20.0
# While a long listing is used, more urgent buckets are looked at so often, s.
_URGENT_S: Final = 0.2


@dataclass
class _Listing:
    """Names of one bucket, most urgent last (taking from the end is cheap), and how long they may be used."""

    bucket: str
    names: list[str]
    good_until: float
    window: int = 0


class Picker:
    """Offers candidates for claims.

    Parameters
    ----------
    is_usable
        False for file names that were found unreadable a moment ago.
    """

    def __init__(self, layout: Layout, clock: Clock, rng: random.Random, is_usable: Callable[[str], bool]) -> None:
        self._layout = layout
        self._pending = str(layout.pending)
        self._clock = clock
        self._rng = rng
        self._is_usable = is_usable
        self._kept: _Listing | None = None
        self._workers = 1
        self._look_again = float("-inf")

    def candidates(self) -> Iterator[Path]:
        """Iterate over files in `pending/`, bucket by bucket, until the caller has claimed one.

        Each step takes one of the first 2 W names at random (W: number of workers), and of twice as many after each
        miss; on a listing in use it begins with a quarter of what it had come to.
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

    def _candidates_of(self, bucket: str) -> Iterator[Path]:
        listing = self._kept_listing(bucket)
        fresh = listing is None
        listing = listing or self._list(bucket)
        # The first names of a listing that was used for a while are mostly taken by others.
        window = max(2 * self._workers, listing.window // 4)
        while True:
            while listing.names:
                index = self._rng.randrange(min(window, len(listing.names)))
                name = listing.names.pop(-1 - index)
                if id_in_name(name) and self._is_usable(name):
                    listing.window = window
                    yield self._layout.pending / bucket / name
                    window *= 2
            if fresh:
                break
            listing, fresh = self._list(bucket), True

    def _buckets(self) -> list[str]:
        try:
            with os.scandir(self._pending) as entries:
                return sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def _kept_listing(self, bucket: str) -> _Listing | None:
        kept = self._kept
        good = kept is not None and kept.bucket == bucket and kept.names and self._clock.monotonic() < kept.good_until
        return kept if good else None

    def _list(self, bucket: str) -> _Listing:
        started = time.perf_counter()
        try:
            names = os.listdir(f"{self._pending}/{bucket}")
        except FileNotFoundError:
            names = []
        names.sort(reverse=True)
        cost_s = time.perf_counter() - started
        listing = _Listing(bucket, names, self._clock.monotonic() + _REUSE_FACTOR * cost_s)
        if len(names) > _LONG_LISTING:
            self._kept = listing
        if names:
            self._workers = self._count_workers()
        return listing

    def _count_workers(self) -> int:
        try:
            return max(1, sum(1 for name in os.listdir(self._layout.leases) if not name.startswith(".")))
        except FileNotFoundError:
            return 1
