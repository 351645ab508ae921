"""Which process exactly: a process id alone may have been given to somebody else since it was written down."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

_STATE_FIELD, _START_FIELD = 0, 19  # of /proc/PID/stat, counted after the command name


@cache
def _machine() -> str:
    """Identify this boot and process-id namespace: containers on one host have different processes of one id."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    namespace = os.readlink("/proc/self/ns/pid").strip("pid:[]")
    return f"{boot}-{namespace}"


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name stands in parentheses and may itself contain blanks and parentheses.
    return text.rpartition(")")[2].split()


def signal_name(number: int) -> str:
    """Return the name of a signal: `SIGKILL`, and for those that have none `signal 35` (real-time signals)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one host, never mistaken for a later one with the same id.

    Attributes
    ----------
    host : name of the host
    pid : process id
    start : boot, process-id namespace and start time (clock ticks since boot)
    """

    host: str
    pid: int
    start: str

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Return the identity of a process of this host, None if there is none."""
        stat = _stat(pid)
        return None if stat is None else cls(socket.gethostname(), pid, f"{_machine()}-{stat[_START_FIELD]}")

    @classmethod
    def own(cls) -> ProcessIdentity:
        """Return the identity of this process."""
        return cls(socket.gethostname(), os.getpid(), f"{_machine()}-{(_stat(os.getpid()) or [])[_START_FIELD]}")

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ProcessIdentity | None:
        """Read `to_dict`'s output; None if it is not one."""
        host, pid, start = data.get("host"), data.get("pid"), data.get("start")
        if isinstance(host, str) and isinstance(pid, int) and isinstance(start, str):
            return cls(host, pid, start)
        return None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def is_dead(self) -> bool:
        """True if this process can be seen not to run any more; of another host, boot or container nobody knows."""
        return self.is_local() and not self.alive()

    def is_local(self) -> bool:
        """True if the process would be visible from this one: same host, same boot, same namespace."""
        return self.host == socket.gethostname() and self.start.startswith(_machine() + "-")

    def alive(self) -> bool:
        """True if exactly this process runs on this host; a zombie does not run."""
        stat = _stat(self.pid) if self.is_local() else None
        return stat is not None and stat[_STATE_FIELD] not in "ZX" and self.start.endswith(f"-{stat[_START_FIELD]}")

    def send(self, number: int, *, group: bool = False) -> bool:
        """Send a signal to exactly this process, or to its group if it leads one; False if it is gone."""
        if not self.alive():
            return False
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        except OSError:  # a kernel before 5.3: a reused id within microseconds is the risk that is left
            descriptor = -1
        try:
            if not self.alive():
                return False
            if group and os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            elif descriptor >= 0:
                signal.pidfd_send_signal(descriptor, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return True
