"""What the tests run in children: importable, since targets are pickled by name."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import NotConverged
from mlip_autopipec.runtime.tether import tethered


def add(a: int, b: int) -> int:
    return a + b


def environment(name: str) -> str | None:
    return os.environ.get(name)


def group() -> tuple[int, int]:
    return os.getpid(), os.getpgid(0)


def fail(kind: str) -> None:
    if kind == "house":
        raise NotConverged("SCF stopped", "use more steps", transient=True)
    raise subprocess.CalledProcessError(3, ["pw.x"])


def unpicklable() -> Any:
    return lambda: None


def end(how: str) -> None:
    if how == "signal":
        os.kill(os.getpid(), signal.SIGSEGV)
    os._exit(7)


def sleep_with_grandchild(pid_file: str) -> None:
    """Start a tethered program and wait for ever, as a labeller that waits for pw.x."""
    process = subprocess.Popen(tethered(["sleep", "1000"]))
    Path(pid_file).write_text(str(process.pid))
    time.sleep(1000)


def handler(factor: int) -> Callable[[Any], Any]:
    def handle(request: Any) -> Any:
        if request == "die":
            os._exit(7)
        if request == "raise":
            raise NotConverged("no", "")
        if request == "sleep":
            time.sleep(1000)
        return os.getpid(), request * factor

    return handle


def slow_handler(seconds: float) -> Callable[[Any], Any]:
    def handle(request: Any) -> Any:
        time.sleep(seconds)
        return request

    return handle


def owner_of_child(pid_file: str) -> None:
    """A worker with a child with a grandchild; killed from outside."""
    from mlip_autopipec.runtime.child import Child

    child = Child(sleep_with_grandchild, (pid_file,), "middle")
    Path(pid_file + ".child").write_text(str(child.pid))
    time.sleep(1000)
