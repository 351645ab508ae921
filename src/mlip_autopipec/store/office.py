"""An office: of all processes on all hosts one holds it. File locks do not reach that far (NFS v3 gives them twice).

The holder's file holds a counter that moves; others judge by their own monotonic clocks, as for workers. The file comes
into being by `link`, which only the first can, and its holder writes to that very inode: one who wakes up too late
writes into a file that was moved aside, never into his successor's. What the holder does must be fenced all the same
(new names, no overwriting), since he learns of his loss only when he looks.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import socket
from pathlib import Path
from typing import Any, Final

import psutil

from mlip_autopipec.core.clock import Clock
from mlip_autopipec.core.errors import DataError, QueueError
from mlip_autopipec.store.document import parse_document, read_regular, write_new
from mlip_autopipec.store.lease import BEATS_PER_LEASE, process_lives

log = logging.getLogger(__name__)

_BYTES: Final = 512


class Office:
    """One office as seen by one process.

    Parameters
    ----------
    path
        The holder's file.
    lease_s
        A holder whose counter did not move for so long is taken for dead, s.
    """

    def __init__(self, path: Path, lease_s: float, clock: Clock) -> None:
        self._path = path
        self._lease_s = lease_s
        self._clock = clock
        self._fd: int | None = None
        self._counter = 0
        self._beaten = 0.0
        self._sight: tuple[bytes, float] | None = None

    @property
    def held(self) -> bool:
        """True if this process took the office and has not dropped it; `beat` tells whether that is still so."""
        return self._fd is not None

    def holder(self) -> str:
        """Say who holds it, for people."""
        record = self._record(self._look() or b"")
        return f"process {record.get('pid')} on {record.get('host')}" if record else "nobody"

    def take(self) -> bool:
        """Take the office if it is free or its holder is dead; call again until it is true."""
        if self.held:
            return True
        seen = self._look()
        if seen is not None and not (self._is_dead(seen) and self._put_aside(seen)):
            return False
        return self._found()

    def beat(self) -> None:
        """Show life, if it is time to.

        Raises
        ------
        QueueError
            The office was taken away: this process was taken for dead (transient: it may try to get it back).
        """
        if self._fd is None:
            raise QueueError(f"{self._path.name}: not held", "take it first")
        now = self._clock.monotonic()
        if now - self._beaten < self._lease_s / BEATS_PER_LEASE:
            return
        if not self._is_mine(self._fd):
            self._close()
            raise QueueError(
                f"{self._path.name}: taken over by {self.holder()}, since no beat was seen for {self._lease_s:g} s",
                "one per run: stop the other one, or let it work",
                transient=True,
            )
        self._counter += 1
        try:
            os.pwrite(self._fd, self._content(), 0)
        except OSError as error:
            log.warning("%s: no beat: %s", self._path, error)
        self._beaten = now

    def drop(self) -> None:
        """Leave the office free (idempotent)."""
        if self._fd is None:
            return
        if self._is_mine(self._fd):
            self._path.unlink(missing_ok=True)
        self._close()

    # -- inside --------------------------------------------------------------------------------------------------

    def _is_mine(self, own: int) -> bool:
        try:
            # Opened, not asked for its status: over NFS only that looks for what is there now.
            there = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            return os.path.samestat(os.fstat(own), os.fstat(there))
        finally:
            os.close(there)

    def _look(self) -> bytes | None:
        try:
            return read_regular(self._path, _BYTES)
        except FileNotFoundError:
            return None
        except DataError:
            return b""

    @staticmethod
    def _record(content: bytes) -> dict[str, Any]:
        try:
            return parse_document(content, "")
        except DataError:
            return {}

    def _is_dead(self, seen: bytes) -> bool:
        record, now = self._record(seen), self._clock.monotonic()
        if record.get("host") == socket.gethostname() and not process_lives(
            record.get("pid"), record.get("process_start")
        ):
            return True
        if self._sight is None or self._sight[0] != seen:
            self._sight = (seen, now)
        return now - self._sight[1] >= self._lease_s

    def _put_aside(self, seen: bytes) -> bool:
        """Move a dead holder's file away; false if it was another one's after all."""
        aside = self._path.with_name(f"{self._path.name}.{secrets.token_hex(6)}.tmp")
        try:
            os.rename(self._path, aside)
        except OSError:
            if not aside.exists():
                return False
        try:
            if read_regular(aside, _BYTES) == seen:
                return True
            # Somebody was faster: his own file is given back, unless a third one has come.
            with contextlib.suppress(FileExistsError):
                os.link(aside, self._path)
            return False
        finally:
            aside.unlink(missing_ok=True)

    def _found(self) -> bool:
        """Make the file; true if this process was the first."""
        temporary = self._path.with_name(f"{self._path.name}.{secrets.token_hex(6)}.tmp")
        write_new(temporary, self._content(), fsync=False)
        fd = os.open(temporary, os.O_RDWR | os.O_CLOEXEC)
        try:
            # Over NFS a link can succeed and its reply be lost; a second name of my file says that it did.
            with contextlib.suppress(OSError):
                os.link(temporary, self._path)
            if temporary.stat().st_nlink != 2:
                os.close(fd)
                return False
        finally:
            temporary.unlink(missing_ok=True)
        self._fd, self._beaten = fd, self._clock.monotonic()
        return True

    def _content(self) -> bytes:
        record = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "process_start": psutil.Process().create_time(),
            "counter": self._counter,
        }
        return json.dumps(record).encode().ljust(_BYTES - 1) + b"\n"

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
