"""Files that could not be read a moment ago: perhaps somebody is still copying them here."""

from __future__ import annotations

from pathlib import Path

from mlip_autopipec.core.clock import Clock


def look_of(path: Path) -> tuple[int, int, int]:
    """Return (inode, size, time of change) of a file; zeros if it is gone. Equal looks mean: nobody wrote to it."""
    try:
        status = path.lstat()
    except OSError:
        return (0, 0, 0)
    return (status.st_ino, status.st_size, status.st_mtime_ns)


class Unsettled:
    """Remembers unreadable files by name until they have stopped changing.

    Parameters
    ----------
    settle_s
        How long a file has to look the same before it is called corrupt, s.
    """

    def __init__(self, settle_s: float, clock: Clock) -> None:
        self._settle_s = settle_s
        self._clock = clock
        self._notes: dict[str, tuple[tuple[int, int, int], float]] = {}

    def is_usable(self, name: str) -> bool:
        """False while a file of this name should be left alone."""
        note = self._notes.get(name)
        return note is None or self._clock.monotonic() - note[1] >= self._settle_s

    def is_settled(self, path: Path) -> bool:
        """Note that the file is unreadable; True if it has been so, unchanged, for the settling time."""
        look, now = look_of(path), self._clock.monotonic()
        note = self._notes.get(path.name)
        if note is None or note[0] != look:
            self._notes[path.name] = (look, now)
            return False
        if now - note[1] < self._settle_s:
            return False
        del self._notes[path.name]
        return True
