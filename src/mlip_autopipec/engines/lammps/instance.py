"""One LAMMPS instance in this process: opened, closed, its errors made ours, its log kept small."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from mlip_autopipec.core.errors import AutopipeError, Crashed, EngineError
from mlip_autopipec.engines.lammps.forces import EXPLOSION_ADVICE
from mlip_autopipec.engines.lammps.library import open_lammps


class Instance:
    """Owns LAMMPS; after a failure it is broken until it is opened again.

    Parameters
    ----------
    log
        LAMMPS' log of set-ups is appended here; None for no log.
    """

    def __init__(self, log: Path | None) -> None:
        self._log = log
        self._lmp: Any = None
        self._broken = False

    def close(self) -> None:
        """Free LAMMPS; further use needs `start` or `restore`."""
        if self._lmp is not None:
            self._lmp.close()
            self._lmp = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        self.close()
        self._lmp = open_lammps()
        self._broken = True  # until it has atoms and forces

    def _check_running(self) -> None:
        if self._lmp is None:
            raise EngineError("MD has not been started", "call start or restore first")
        if self._broken:
            raise Crashed("MD cannot go on after a failure", "restore a snapshot")

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except AutopipeError:
            raise
        except Exception as error:  # LAMMPS raises bare Exception and MPIAbortException
            self._broken = True
            raise Crashed(f"LAMMPS failed ({what}): {_first_line(error)}", _advice(str(error))) from error

    @contextlib.contextmanager
    def _logged(self) -> Iterator[None]:
        """Write LAMMPS' log only inside: a line for each of many thousand short runs would fill the disk."""
        if self._log is not None:
            self._lmp.command(f'log "{self._log}" append')
        try:
            yield
        finally:
            if self._log is not None:
                self._lmp.command("log none")


def _first_line(error: BaseException) -> str:
    return str(error).strip("'\" \n").split("\n")[0].split("\\n")[0].removeprefix("ERROR: ")


def _advice(message: str) -> str:
    if "ost atoms" in message or "Non-numeric" in message:
        return f"MD exploded: {EXPLOSION_ADVICE}"
    return ""
