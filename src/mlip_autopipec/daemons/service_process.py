"""One daemon as the supervisor sees it: started, watched, restarted with backoff, ended."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlip_autopipec.core.process import ProcessIdentity, signal_name
from mlip_autopipec.daemons.settings import SupervisorSettings
from mlip_autopipec.runtime.child import child_environment
from mlip_autopipec.runtime.heartbeat import heartbeat_identity, read_heartbeat
from mlip_autopipec.runtime.tether import tethered
from mlip_autopipec.store.rundir import RunDirectory

logger = logging.getLogger(__name__)

_LOG_TAIL_BYTES = 4096
_MOST_DOUBLINGS = 60  # 2.0**1024 is no number any more, and a daemon may crash as often in a night


class ServiceProcess:
    """A process `python -m MODULE -C RUN --name NAME` that is kept alive.

    It has a process group of its own and gets SIGTERM from the kernel when the supervisor dies, so that it drains.

    Parameters
    ----------
    module
        What to run, e.g. `autopipe_services.dft_worker`.
    name
        Of the process: of its heartbeat, its log, its events.
    """

    def __init__(self, run: RunDirectory, settings: SupervisorSettings, *, module: str, name: str) -> None:
        self.run = run
        self.name = name
        self.module = module
        self.restarts = 0
        self.last_exit = ""
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._start_at = float("-inf")
        self._crashes_in_a_row = 0
        self._predecessor = self._find_predecessor()
        self._kill_predecessor_at: float | None = None

    @property
    def running(self) -> bool:
        return self._process is not None

    def tend(self, now: float) -> bool:
        """Start the process if it is time to; True if it has just died."""
        if self._process is not None:
            return self._reap(self._process, now)
        if now >= self._start_at and not self._predecessor_lives(now):
            try:
                self._start(now)
            except OSError as error:  # no process, no memory or no disk for now: the others must live on
                self._start_at = now + self._next_pause()
                self.last_exit = f"not started: {error}"
                logger.warning("%s: %s; trying again in %g s", self.name, self.last_exit, self._start_at - now)
        return False

    def terminate(self) -> None:
        """Ask the process to drain."""
        if self._process is not None:
            self._process.terminate()

    def kill(self) -> None:
        """End the process and its group at once, and reap it."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def gone(self) -> bool:
        """True if the process does not run (any more); never starts one."""
        if self._process is None:
            return True
        code = self._process.poll()
        if code is None:
            return False
        self.last_exit, self._process = self._describe_exit(code), None
        return True

    def describe(self) -> dict[str, Any]:
        """What the supervisor's heartbeat says about it."""
        pid = self._process.pid if self._process else None
        return {"pid": pid, "restarts": self.restarts, "last_exit": self.last_exit}

    # --- inside -----------------------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        self.run.logs.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", self.module, "-C", str(self.run.root), "--name", self.name]
        with self._log_file().open("ab") as log:
            self._process = subprocess.Popen(
                tethered(command, number=signal.SIGTERM),
                process_group=0, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=child_environment(),
            )  # fmt: skip
        self._started = now
        logger.info("%s: started, pid %d", self.name, self._process.pid)

    def _reap(self, process: subprocess.Popen[bytes], now: float) -> bool:
        code = process.poll()
        if code is None:
            return False
        self._process = None
        self.last_exit = self._describe_exit(code)
        # Who ran for long has recovered from what ended it before.
        if now - self._started > self._settings.restart_backoff_max_s:
            self._crashes_in_a_row = 0
        pause = self._next_pause()
        self.restarts += 1
        self._start_at = now + pause
        logger.warning("%s: ended unasked (%s); starting it again in %g s", self.name, self.last_exit, pause)
        return True

    def _next_pause(self) -> float:
        """Return how long to wait before the next start, s: twice as long each time in a row, up to the limit."""
        times, self._crashes_in_a_row = self._crashes_in_a_row, self._crashes_in_a_row + 1
        longest_s = self._settings.restart_backoff_max_s
        return min(self._settings.restart_backoff_s * 2.0 ** min(times, _MOST_DOUBLINGS), longest_s)

    def _describe_exit(self, code: int) -> str:
        if code < 0:
            return f"killed by {signal_name(-code)}"
        said = self._last_log_line() if code else ""
        return f"exit code {code}" + (f": {said}" if said else "")

    def _log_file(self) -> Path:
        return self.run.logs / f"{self.name}.log"

    def _last_log_line(self) -> str:
        try:
            with self._log_file().open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
                lines = log.read().decode(errors="replace").splitlines()
        except OSError:  # somebody tidied up
            return ""
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def _find_predecessor(self) -> ProcessIdentity | None:
        """Return the process of this name that an earlier supervisor left on this host."""
        record = read_heartbeat(self.run.heartbeats / f"{self.name}.json")
        identity = heartbeat_identity(record) if record else None
        return identity if identity is not None and identity.alive() else None

    def _predecessor_lives(self, now: float) -> bool:
        """Let a predecessor drain, then kill it: two of one name must never run."""
        if self._predecessor is None:
            return False
        if not self._predecessor.alive():
            self._predecessor = None
            return False
        if self._kill_predecessor_at is None:
            logger.warning("%s: pid %d of an earlier start still runs, draining it", self.name, self._predecessor.pid)
            self._predecessor.send(signal.SIGTERM)
            self._kill_predecessor_at = now + self._settings.grace_s
        elif now >= self._kill_predecessor_at:
            self._predecessor.send(signal.SIGKILL, group=True)
        return True
