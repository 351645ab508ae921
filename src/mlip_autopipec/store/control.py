"""Wishes of the user that daemons on every node see: one marker file each under `control/`."""

from __future__ import annotations

import re
from pathlib import Path

from mlip_autopipec.core.files import fsync_directory, write_json

WISHES = ("stop", "pause")
# One for each process that is to get another chance; whoever fulfils it withdraws it.
_REVIVE = re.compile(r"revive-[A-Za-z0-9][A-Za-z0-9_-]*")
# The version that walkers are to use: `pin` stays with it, `use` lets newer ones follow.
_VERSION = re.compile(r"(pin|use)-v\d{4,}")


class Control:
    """Reads and sets the markers of one run directory's `control/` folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def ask(self, wish: str, reason: str = "") -> None:
        """Set a wish (idempotent)."""
        self._check(wish)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / wish, {"reason": reason})

    def withdraw(self, wish: str) -> None:
        """Take a wish back (idempotent)."""
        self._check(wish)
        (self.folder / wish).unlink(missing_ok=True)
        fsync_directory(self.folder)

    def wants(self, wish: str) -> bool:
        """True while the marker exists."""
        self._check(wish)
        return (self.folder / wish).exists()

    @staticmethod
    def _check(wish: str) -> None:
        if wish not in WISHES and not _REVIVE.fullmatch(wish) and not _VERSION.fullmatch(wish):
            raise ValueError(f"unknown wish {wish!r}, known are {WISHES}, revive-NAME, pin-VERSION and use-VERSION")
