"""Starting the supervisor: in this terminal, or detached from it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from mlip_autopipec.core.errors import AutopipeError
from mlip_autopipec.daemons.inoffice import WAITING
from mlip_autopipec.daemons.launch import AlreadyRunning
from mlip_autopipec.runtime.heartbeat import heartbeat_identity, read_heartbeat
from mlip_autopipec.store.control import Control
from mlip_autopipec.store.rundir import RunDirectory

_MODULE = "autopipe_services.supervisor"
_START_S = 60.0
_LOG_TAIL_LINES = 5
_GONE = ("failed", "stopped")
_TRY_AGAIN = 75


def already_running(run: RunDirectory, *, foreground: bool) -> int | None:
    """Return the process id of the supervisor that is at work, None if none is.

    Raises
    ------
    AlreadyRunning
        It is still draining, or the foreground is asked for.
    """
    state, pid = _alive(run)
    if state is None:
        return None
    if foreground or state == "draining":
        _refuse_if_alive(run)
    return pid


def supervise(run: RunDirectory) -> NoReturn:
    """Become the supervisor in this terminal; it ends when the run is done. Ctrl-C drains."""
    _refuse_if_alive(run)
    run.create()
    Control(run.control).withdraw("stop")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", _MODULE, "-C", str(run.root), "--freeze", "--foreground"])


def begin(run: RunDirectory, say: Callable[[str], None] = lambda text: None) -> tuple[int, bool]:
    """Start a supervisor that outlives this process, and wait until it is at work.

    Parameters
    ----------
    say
        Shows a line to a person: who is waited for.

    Returns
    -------
    int, bool
        Its process id, and True if it was started now, False if it was there already.

    Raises
    ------
    AutopipeError
        It ended at once (one of another host is at work, say), with the last lines of its log, or it does not come up.
    """
    state, pid = _alive(run)
    if state not in (None, "draining"):
        return pid, False
    _refuse_if_alive(run)
    run.create()
    Control(run.control).withdraw("stop")
    log_path = run.logs / "supervisor.log"
    with log_path.open("ab") as log:
        offset = log.tell()
        process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, "-C", str(run.root), "--freeze"],
            start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    if _comes_up(run, process, say):
        return process.pid, True
    if process.poll() is None:
        raise AutopipeError(f"the supervisor (pid {process.pid}) does not come up", f"see {log_path}", transient=True)
    error = AutopipeError(f"the supervisor ended at once: {_tail(log_path, offset)}", f"see {log_path}")
    # Peaceful (0) or killed by a signal (negative), it is not there: no success, and no exit code of its own.
    error.exit_code = process.returncode if process.returncode > 0 else _TRY_AGAIN
    raise error


def _comes_up(run: RunDirectory, process: subprocess.Popen[bytes], say: Callable[[str], None]) -> bool:
    """Wait until the supervisor is at work; False if it ends, or does not even begin to start.

    Once its first heartbeat says `starting` it may take its time: publishing thousands of first tasks does. And where
    one of another host has died it waits for as long as that might only be slow.
    """
    deadline = time.monotonic() + _START_S
    told = ""
    while process.poll() is None:
        state, pid = _alive(run)
        if pid == process.pid and state not in (None, "starting", WAITING):
            return True
        if state == WAITING and (waiting_for := _waiting_for(run)) != told:
            told = waiting_for
            say(f"waiting for {told}, unless it is dead")
        if pid != process.pid and time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return False


def _waiting_for(run: RunDirectory) -> str:
    record = read_heartbeat(run.heartbeats / "supervisor.json") or {}
    return str(record.get("detail", {}).get("waiting_for", "its office"))


def _alive(run: RunDirectory) -> tuple[str | None, int]:
    """Return state and process id of the living supervisor of this host; None if there is none.

    One that has said goodbye is none any more, although its process may need a moment to leave.
    """
    record = read_heartbeat(run.heartbeats / "supervisor.json")
    identity = heartbeat_identity(record) if record else None
    if record is None or record["state"] in _GONE or identity is None or not identity.alive():
        return None, 0
    return str(record["state"]), identity.pid


def _refuse_if_alive(run: RunDirectory) -> None:
    state, pid = _alive(run)
    if state is not None:
        what = "is still draining" if state == "draining" else "runs already"
        raise AlreadyRunning(
            f"{run.root}: its supervisor (pid {pid}) {what}", "autopipe otf stop, then try again", transient=True
        )


def _tail(path: Path, offset: int) -> str:
    with path.open("rb") as log:
        log.seek(offset)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-_LOG_TAIL_LINES:]) or "it said nothing"
