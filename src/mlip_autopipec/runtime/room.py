"""Is there room on the disk? Whoever writes much pauses before whoever writes what matters finds none."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

# How what is waited for begins: `autopipe status` knows by it what needs a person.
NO_ROOM: Final = "room on the disk"
_LOOK_S: Final = 2.0
_GB: Final = 1e9
# Not to pause and go on by turns.
_MARGIN: Final = 1.05


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


class Room:
    """Looks how much of a disk is free, at most every two seconds.

    Parameters
    ----------
    folder
        Somewhere on the disk.
    min_free_gb
        GB (10^9 bytes) that stay free; 0: never looks.
    free
        Gives the free bytes; by default what the system says (quotas are not seen).
    """

    def __init__(
        self,
        folder: Path,
        min_free_gb: float,
        *,
        free: Callable[[Path], int] = _free_bytes,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._least = min_free_gb * _GB
        self._free = free
        self._monotonic = monotonic
        self._next_look = float("-inf")
        self._missing = ""

    def missing(self) -> str:
        """Return what is waited for; empty if there is room."""
        now = self._monotonic()
        if self._least and now >= self._next_look:
            self._next_look = now + _LOOK_S
            least = self._least * (_MARGIN if self._missing else 1.0)
            free = self._free(self._folder)
            # Rounded: it is a message, and not to be written again with every byte.
            self._missing = (
                f"{NO_ROOM} of {self._folder}: {free / _GB:.1f} GB free of retention.min_free_gb "
                f"{self._least / _GB:g}; goes on by itself when there is more"
                if free < least
                else ""
            )
        return self._missing
