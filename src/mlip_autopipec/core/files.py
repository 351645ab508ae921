"""Atomic file writes: a reader never sees half a file, and what was written survives a power cut."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import DataError


def fsync_directory(folder: Path) -> None:
    """Make renames and links inside `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_bytes(path: Path, data: bytes, *, fsync: bool = True) -> None:
    """Replace `path` by `data`: temporary file in the same folder, fsync, `os.replace`."""
    # A dot file that no listing of ours picks up; random, because two processes may write the same target.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as handle:
            handle.write(data)
            if fsync:
                handle.flush()
                os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if fsync:
        fsync_directory(path.parent)


def write_text(path: Path, text: str, *, fsync: bool = True) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, text.encode(), fsync=fsync)


def dump_json(value: Any) -> str:
    """Return `value` as indented JSON that a person can read; NaN and infinity are refused."""
    return json.dumps(value, indent=1, allow_nan=False) + "\n"


def write_json(path: Path, value: Any, *, fsync: bool = True) -> None:
    """`write_bytes` for a JSON value."""
    write_text(path, dump_json(value), fsync=fsync)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    DataError
        The file is not valid UTF-8 JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON: {error}", "repair or remove the file") from error


def append_line(path: Path, line: str, *, fsync: bool = False) -> None:
    """Append one line in a single `write`, so that lines of a crashed writer are whole or absent."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, line.rstrip("\n").encode() + b"\n")
        if fsync:
            os.fsync(fd)
    finally:
        os.close(fd)
