"""Runs one program to its end or its time limit, and never leaves it behind."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlip_autopipec.core.errors import Crashed

_TERMINATE_S = 5.0


@dataclass(frozen=True)
class Ended:
    """How a program ended: exit code (negative: signal), seconds it took, and whether it was killed for its time."""

    code: int
    seconds: float
    overran: bool


def run_program(
    command: Sequence[str], folder: Path, stdout: Path, stderr: Path, environment: Mapping[str, str], limit_s: float
) -> Ended:
    """Run `command` in `folder` and wait for it.

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
                f"{command[0]}: could not be started: {error}", "see node.espresso", transient=True
            ) from error
        overran = False
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            overran = True
        finally:
            # Also when this process is interrupted: a pw.x nobody waits for would burn its cores for nothing.
            _end(process)
    return Ended(process.returncode, time.monotonic() - begin, overran)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_TERMINATE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
