"""A cheap look at which results there are, for a process that asks twice a second."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from mlip_autopipec.store.results import Results

# A folder may change again within the resolution of its time stamp, or while it is listed.
_LISTINGS_AFTER_CHANGE = 4
# Remote folders may hide their change of time for longer than their content.
_LOOKS_BETWEEN_FULL = 60


@dataclass
class _Shard:
    changed_ns: int = -1
    listings_left: int = _LISTINGS_AFTER_CHANGE
    ids: set[str] = field(default_factory=set)


class ResultsView:
    """Remembers the content of the sub-folders of `results/` whose time stamp has not changed."""

    def __init__(self, results: Results) -> None:
        self._results = results
        self._shards: dict[str, _Shard] = {}
        self._looks = 0

    def ids(self) -> set[str]:
        """Return the ids of all results."""
        self._looks += 1
        if self._looks % _LOOKS_BETWEEN_FULL == 0:
            self._shards.clear()
        stamps = self._stamps()
        for name in set(self._shards) - set(stamps):
            del self._shards[name]
        for name, changed_ns in stamps.items():
            shard = self._shards.setdefault(name, _Shard())
            if shard.changed_ns != changed_ns:
                shard.changed_ns, shard.listings_left = changed_ns, _LISTINGS_AFTER_CHANGE
            if shard.listings_left:
                shard.listings_left -= 1
                shard.ids = set(self._results.ids_of_shard(name))
        return set().union(*(shard.ids for shard in self._shards.values()))

    def _stamps(self) -> dict[str, int]:
        try:
            with os.scandir(self._results.folder) as entries:
                return {e.name: e.stat().st_mtime_ns for e in entries if len(e.name) == 2}
        except FileNotFoundError:
            return {}
