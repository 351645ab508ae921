"""Atomic file writes: a reader never sees half a file, and what was written survives a power cut."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from mlip_autopipec.core.errors import DataError

T = TypeVar("T")


def fsync_directory(folder: Path) -> None:
    """Make renames and links inside `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_bytes(path: Path, data: bytes, *, fsync: bool = True, settle: bool = True) -> None:
    """Replace `path` by `data`: temporary file in the same folder, fsync, `os.replace`.

    Parameters
    ----------
    settle
        False: a power cut may take the whole replacement back, until the next file that is synced there is written.
    """
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
    if fsync and settle:
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


def again_if_stale(read: Callable[[], T]) -> T:
    """Return `read()`, tried twice more after ESTALE: over NFS a file may be replaced between opening and reading."""
    for _ in range(2):
        try:
            return read()
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
    return read()


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
        return json.loads(again_if_stale(lambda: path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON: {error}", "repair or remove the file") from error


def append_line(path: Path, line: str, *, fsync: bool = False) -> None:
    """Append one line (or frame of lines) in a single `write`, so that those of a crashed writer are whole or absent.

    Raises
    ------
    OSError
        The disk took nothing, or (ENOSPC) only a part, which is removed again.
    """
    data = line.rstrip("\n").encode() + b"\n"
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            data = b"\n" + data  # half a line that a power cut left must not swallow this one
        if (written := os.write(fd, data)) < len(data):
            _take_back(fd, written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if fsync:
            os.fsync(fd)
    finally:
        os.close(fd)


def _take_back(fd: int, written: int) -> None:
    """Remove what was appended last, unless another process has appended since."""
    end = os.lseek(fd, 0, os.SEEK_CUR)
    if os.fstat(fd).st_size == end:
        os.ftruncate(fd, end - written)
