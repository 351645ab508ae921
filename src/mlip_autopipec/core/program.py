"""Runs one program under supervision: to its end, its time limit or its hopelessness, and never leaves it behind."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from mlip_autopipec.core.errors import Crashed

_TERMINATE_S = 5.0
_LOOK_S = 1.0


class Stop(StrEnum):
    """Why a program was stopped by us."""

    TIME = "time"
    HOPELESS = "hopeless"


@dataclass(frozen=True)
class Ended:
    """How a program ended: exit code (negative: signal), seconds it took, and why it was stopped, if it was."""

    code: int
    seconds: float
    stop: Stop | None = None


def run_program(
    command: Sequence[str],
    folder: Path,
    stdout: Path,
    stderr: Path,
    environment: Mapping[str, str],
    limit_s: float,
    is_hopeless: Callable[[], bool] = lambda: False,
) -> Ended:
    """Run `command` in `folder` and wait for it.

    Parameters
    ----------
    limit_s
        s after which it is killed, with all its descendants.
    is_hopeless
        Called every second; once it returns True, the program is killed.

    Raises
    ------
    Crashed
        It could not be started.
    """
    begin = time.monotonic()
    with stdout.open("wb") as out, stderr.open("wb") as err:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**os.environ, **environment},
            )
        except OSError as error:
            raise Crashed(
                f"{command[0]}: could not be started: {error}", "see the node section", transient=True
            ) from error
        family: dict[int, psutil.Process] = {}
        try:
            stop = _watch(process, begin + limit_s, is_hopeless, family)
        finally:
            # Also when this process is interrupted: a pw.x nobody waits for would burn its cores for nothing.
            _end(process, family)
    return Ended(process.returncode, time.monotonic() - begin, stop)


def _watch(
    process: subprocess.Popen[bytes],
    deadline: float,
    is_hopeless: Callable[[], bool],
    family: dict[int, psutil.Process],
) -> Stop | None:
    """Wait for the end; return why it has to be made. `family` gets whom the program has started."""
    while True:
        left = deadline - time.monotonic()
        if _has_ended(process, max(0.0, min(_LOOK_S, left))):
            return None
        _meet(process, family)
        if left <= _LOOK_S:
            return Stop.TIME
        if is_hopeless():
            return Stop.HOPELESS


def _has_ended(process: subprocess.Popen[bytes], within_s: float) -> bool:
    """Wait for the end, so long at most. The kernel tells it at once, where `Popen.wait` looks every 50 ms."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:  # an old kernel, or no descriptor is left
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(within_s)
    else:
        try:
            ending = select.poll()
            ending.register(descriptor, select.POLLIN)
            ending.poll(1000 * within_s)
        finally:
            os.close(descriptor)
    return process.poll() is not None


def _meet(process: subprocess.Popen[bytes], family: dict[int, psutil.Process]) -> None:
    with contextlib.suppress(psutil.Error):
        family |= {member.pid: member for member in psutil.Process(process.pid).children(recursive=True)}


def _end(process: subprocess.Popen[bytes], family: dict[int, psutil.Process]) -> None:
    """End a program and its whole family: a launcher that is killed, by us or not, leaves its ranks to nobody."""
    if process.poll() is None:
        _meet(process, family)
        process.terminate()
        try:
            process.wait(_TERMINATE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for member in family.values():
        with contextlib.suppress(psutil.Error):
            member.kill()  # psutil knows a process by its start too: never another one with its number
