"""One MD state in one file: a zip of LAMMPS' binary restart and what LAMMPS does not know about the structure."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.engines.lammps.box import BoxMap

_RESTART, _STRUCTURE = "lammps.restart", "structure.json"
_SCHEMA = 1


@dataclass(frozen=True)
class Origin:
    """How LAMMPS' atoms relate to the user's: elements of the types, orientation."""

    elements: tuple[str, ...]
    box: BoxMap


def take_snapshot(lmp: Any, origin: Origin, *, in_passing: bool = False, folder: Path | None = None) -> bytes:
    """Return the state of `lmp`.

    Parameters
    ----------
    folder
        Where LAMMPS may write it for a moment; None: the system's place for such files, which may be small.
    in_passing
        LAMMPS goes on as if nothing had been; its atoms must be inside of its box. False: it sets itself up anew.
    """
    with tempfile.TemporaryDirectory(prefix=".autopipe-", dir=folder) as scratch:
        restart = Path(scratch) / _RESTART
        lmp.command(f'write_restart "{restart}"{" noinit" if in_passing else ""}')
        content = restart.read_bytes()
    return pack(origin, content, int(lmp.extract_global("ntimestep")))


def load_snapshot(lmp: Any, path: Path) -> Origin:
    """Read the state in `path` into the empty `lmp`.

    Raises
    ------
    DataError
        `path` is missing or no snapshot of ours.
    """
    origin, content, _ = unpack(path)
    with tempfile.TemporaryDirectory(prefix="autopipe-") as folder:
        restart = Path(folder) / _RESTART
        restart.write_bytes(content)
        lmp.command(f'read_restart "{restart}"')
    return origin


def pack(origin: Origin, restart: bytes, step: int) -> bytes:
    """Return a snapshot made of LAMMPS' binary restart."""
    about = {"schema": _SCHEMA, "step": step, "elements": list(origin.elements), "structure": origin.box.to_dict()}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr(_STRUCTURE, json.dumps(about, indent=1))
        target.writestr(_RESTART, restart)
    return archive.getvalue()


def unpack(path: Path) -> tuple[Origin, bytes, int | None]:
    """Return what is in a snapshot: origin, LAMMPS' restart, step (None in those of earlier versions).

    Raises
    ------
    DataError
        `path` is missing or no snapshot of ours.
    """
    try:
        with zipfile.ZipFile(path) as source:
            about = json.loads(source.read(_STRUCTURE))
            content = source.read(_RESTART)
        if about["schema"] != _SCHEMA:
            raise DataError(f"{path}: snapshot of schema {about['schema']}, this program knows {_SCHEMA}")
        return Origin(tuple(about["elements"]), BoxMap.from_dict(about["structure"])), content, about.get("step")
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such snapshot") from error
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a snapshot: {error}", "go back to an older one") from error
