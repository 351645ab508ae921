"""The processes of one chaos, on all levels: workers, their children, pw.x. Found by a mark in their environment."""

from __future__ import annotations

import contextlib
import secrets
from typing import Final

import psutil

MARK: Final = "AUTOPIPE_CHAOS"
KINDS: Final = ("worker", "child", "pw.x")


class Victims:
    """Everything alive that was started under the mark, whoever its parent is now."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)

    def alive(self) -> dict[str, list[psutil.Process]]:
        """Return the living processes of each kind, and of kind `other`."""
        found: dict[str, list[psutil.Process]] = {kind: [] for kind in (*KINDS, "other")}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found[_kind(process.cmdline())].append(process)
        return found

    def count(self) -> int:
        """Return how many live, of any kind."""
        return sum(len(processes) for processes in self.alive().values())


def _kind(words: list[str]) -> str:
    # A tether that is about to become pw.x has its name among the words already.
    if any(word.rpartition("/")[2] == "pw.x" for word in words):
        return "pw.x"
    if "mlip_autopipec.runtime.child_main" in words:
        return "child"
    return "worker" if "worker" in words else "other"
