"""A spawned child process that computes what would block a daemon, and whose end is never missed.

The child is a fresh interpreter in a process group of its own (so the whole family can be killed), it is killed by
the kernel when its parent dies, and its crash is a `Result` with the reason.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import AutopipeError, Crashed
from mlip_autopipec.core.process import ProcessIdentity, signal_name

# One thread per child: the run has several. Numba's omp layer dies after fork and was 3 times slower with 2 threads.
DEFAULT_ENVIRONMENT = {"NUMBA_THREADING_LAYER": "workqueue", "OMP_NUM_THREADS": "1"}
_DYING_S = 2.0


def child_environment(overrides: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process' environment with the defaults for children (what the user set wins) and `overrides`."""
    return {**DEFAULT_ENVIRONMENT, **os.environ, **(overrides or {})}


@dataclass(frozen=True)
class Result:
    """What came back from a child.

    Attributes
    ----------
    value : what the target or handler returned
    error : why there is no value; `Crashed` with ``transient=True`` if the child died
    traceback : of the error, inside the child; empty if the child died
    died : True if the child is gone without having answered
    """

    value: Any = None
    error: AutopipeError | None = None
    traceback: str = ""
    died: bool = False

    @property
    def ok(self) -> bool:
        return self.error is None


class Child:
    """Run `target(*args)` in a child process.

    Start it from the main thread: the kernel kills the child when the *thread* that started it ends. Call `close`
    (or `kill`) when its result is there.

    Parameters
    ----------
    target
        An importable function (not of `__main__`), as are all classes of the arguments: they are pickled.
    args
        Its arguments.
    name
        For messages.
    serves
        False: what `target` returns is the one result. True: `target` is called once to make a function, which then
        answers each `send(request)` by one result; so one child with its imports and caches serves many requests.
    environment
        Extra environment variables.
    output
        File that the child's stdout and stderr are appended to; default: where the parent's go.
    """

    def __init__(
        self,
        target: Callable[..., Any],
        args: Sequence[Any] = (),
        name: str = "child",
        *,
        serves: bool = False,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> None:
        if target.__module__ == "__main__":
            raise ValueError(f"{name}: {target.__qualname__} is of __main__, which the child cannot import")
        self.name = name
        self._result: Result | None = None
        self._serves = serves
        self._closed_at: float | None = None
        message = pickle.dumps((target, tuple(args), serves))  # before anything is started: this may fail
        self._connection, theirs = Pipe(duplex=True)
        command = [sys.executable, "-m", "mlip_autopipec.runtime.child_main", str(os.getpid()), str(theirs.fileno())]
        with contextlib.ExitStack() as stack:
            stack.callback(theirs.close)
            stream = stack.enter_context(output.open("ab")) if output else None
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], process_group=0, env=child_environment(environment),
                stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            )  # fmt: skip
        self.identity = ProcessIdentity.of(self._process.pid)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is dead: `poll` will say so
            self._connection.send(sys.path)
            self._connection.send_bytes(message)

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, request: Any) -> None:
        """Hand a request to a serving child; if the child is dead, `poll` will say so.

        Raises
        ------
        ValueError
            The child does not serve.
        """
        if not self._serves:
            raise ValueError(f"{self.name} is a child for one result")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send(request)

    def alive(self) -> bool:
        """True while the child runs."""
        if self._process.returncode is not None:
            return False
        # WNOWAIT leaves the zombie: its id, which is the group's, stays ours until the group is killed.
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def poll(self) -> Result | None:
        """Return the next result, None while there is none; never blocks. A death is repeated at every call."""
        if self._result is not None:
            return self._result
        was_alive = self.alive()
        answer = self._receive()
        if answer is not None:
            if not self._serves:
                self._result = answer
            return answer
        if was_alive and not self._dying_too_long():
            return None
        self.kill()
        error = Crashed(f"{self.name}: {self._death()}", "see the log of the worker", transient=True)
        self._result = Result(error=error, died=True)
        return self._result

    def sources(self) -> Sequence[Connection]:
        """Return what becomes readable when `poll` has news: an answer, or the child's end.

        Nothing once the child has closed its pipe, which is readable for ever then.
        """
        return [] if self._result is not None or self._closed_at is not None else [self._connection]

    def _receive(self) -> Result | None:
        if self._closed_at is not None:
            return None
        try:
            if not self._connection.poll(0):
                return None
            kind, content, trace = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            # It closed the pipe, so it is dying; waiting a moment tells its own exit code from our kill.
            self._closed_at = time.monotonic()
            return None
        return Result(value=content) if kind == "value" else Result(error=content, traceback=trace)

    def _dying_too_long(self) -> bool:
        return self._closed_at is not None and time.monotonic() - self._closed_at > _DYING_S

    def wait(self, timeout_s: float) -> Result | None:
        """Block up to `timeout_s` for the next result (tests, command line; a daemon's step only polls)."""
        deadline = time.monotonic() + timeout_s
        while (result := self.poll()) is None and time.monotonic() < deadline:
            if self._closed_at is None:
                self._connection.poll(min(0.1, max(0.0, deadline - time.monotonic())))
            else:
                time.sleep(0.01)
        return result

    def kill(self) -> None:
        """Kill the child and its whole process group, and reap it (idempotent)."""
        if self._process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def close(self, grace_s: float = 0.5) -> None:
        """Say goodbye: a child that waits for requests leaves by itself within `grace_s`, any other is killed."""
        self._connection.close()
        deadline = time.monotonic() + grace_s
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.kill()
        self._result = self._result or Result(error=Crashed(f"{self.name}: closed"), died=True)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _death(self) -> str:
        code = self._process.returncode
        if code is not None and code < 0:
            return f"killed by {signal_name(-code)}"
        return f"ended without an answer, exit code {code}"
