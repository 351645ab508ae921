"""An office: of all processes on all hosts one holds it. File locks do not reach that far (NFS v3 gives them twice).

The holder's file holds a counter that moves; others judge by their own monotonic clocks, as for workers. The file comes
into being by `link`, which only the first can, and its holder writes to that very inode: one who wakes up too late
writes into a file that was moved aside, never into his successor's. What the holder does must be fenced all the same
(new names, no overwriting), since he learns of his loss only when he looks.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import secrets
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.clock import Clock
from mlip_autopipec.core.errors import DataError, QueueError
from mlip_autopipec.core.process import ProcessIdentity
from mlip_autopipec.store.document import parse_document, read_regular, write_new
from mlip_autopipec.store.lease import BEATS_PER_LEASE

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
        self._leftovers: set[Path] = set()  # temporary files that were there when this process took the office
        self._taken = 0.0
        self.holder_lives = False  # at the last try to take the office its holder was seen to live

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
        self.holder_lives = False
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
        if self._is_mine(self._fd) is False:
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
        if now - self._taken >= self._lease_s:
            self._tidy()

    def names(self, process: ProcessIdentity) -> bool:
        """True if the office is that process', or if that cannot be read just now; for those who work for it."""
        try:
            content = read_regular(self._path, _BYTES)
        except FileNotFoundError:
            return False
        except (DataError, OSError):
            return True
        holder = ProcessIdentity.from_dict(self._record(content))
        return holder is None or holder == process

    def drop(self) -> None:
        """Leave the office free (idempotent)."""
        if self._fd is None:
            return
        if self._is_mine(self._fd):
            with contextlib.suppress(OSError):  # then its lease runs out
                self._path.unlink()
        self._close()

    # -- inside --------------------------------------------------------------------------------------------------

    def _is_mine(self, own: int) -> bool | None:
        """Return whether the file is still the one that this process made; None if that cannot be seen just now."""
        try:
            # Opened, not asked for its status: over NFS only that looks for what is there now.
            there = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                return False
            log.warning("%s: cannot be looked at: %s", self._path, error)
            return None
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
        identity, now = ProcessIdentity.from_dict(self._record(seen)), self._clock.monotonic()
        if identity is not None and identity.is_dead():
            return True
        if self._sight is None or self._sight[0] != seen:
            self.holder_lives = self._sight is not None
            self._sight = (seen, now)
        if now - self._sight[1] >= self._lease_s:
            return True
        self.holder_lives |= identity is not None and identity.alive()
        return False

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
            self._link(temporary)
            # Over NFS a link can succeed and its reply be lost: what counts is whose file is there.
            if not self._is_mine(fd):
                os.close(fd)
                return False
        finally:
            temporary.unlink(missing_ok=True)
        self._fd = fd
        self._taken = self._beaten = self._clock.monotonic()
        self._leftovers = set(self._temporaries())
        return True

    def _link(self, temporary: Path) -> None:
        try:
            os.link(temporary, self._path)
        except FileExistsError:
            pass
        except OSError as error:
            log.warning("%s: not taken: %s", self._path, error)

    def _temporaries(self) -> list[Path]:
        return list(self._path.parent.glob(f"{self._path.name}.*.tmp"))

    def _tidy(self) -> None:
        """Remove what killed processes left: temporary files live for an instant, these are a lease old."""
        for path in self._leftovers:
            with contextlib.suppress(OSError):
                path.unlink()
        self._leftovers = set()

    def _content(self) -> bytes:
        record = {**ProcessIdentity.own().to_dict(), "counter": self._counter}
        return json.dumps(record).encode().ljust(_BYTES - 1) + b"\n"

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
