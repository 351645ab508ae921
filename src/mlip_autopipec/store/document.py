"""JSON documents of the queue: read with suspicion (people move and edit them), written for people to read."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, Final, NoReturn

from mlip_autopipec.core.errors import DataError, QueueError
from mlip_autopipec.core.files import again_if_stale

MAX_BYTES: Final = 64 * 1024 * 1024


def read_document(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read one JSON object from a regular file.

    Raises
    ------
    FileNotFoundError
        The file does not exist (a reader may be late: files move).
    DataError
        It is a link, a folder, a pipe, too large, not UTF-8, not JSON, holds NaN or infinity, or is no object.
    """
    data = read_regular(path, max_bytes + 1)
    if len(data) > max_bytes:
        raise DataError(f"{path.name}: more than the {max_bytes} bytes that are read")
    return parse_document(data, path.name)


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Return at most the first `max_bytes` of a regular file.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    DataError
        It is a link, a folder, a pipe or not permitted to be read.
    """
    return again_if_stale(lambda: _read_regular(path, max_bytes))


def _read_regular(path: Path, max_bytes: int) -> bytes:
    try:
        # O_NONBLOCK: opening a pipe that somebody put there must not hang.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM):
            cause = "a symbolic link" if error.errno == errno.ELOOP else error.strerror
            raise DataError(f"{path.name}: {cause}") from error
        raise
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path.name}: not a regular file")
        return _read_all(fd, status.st_size, max_bytes)
    finally:
        os.close(fd)


def _read_all(fd: int, expected_bytes: int, max_bytes: int) -> bytes:
    """Read to the end or to `max_bytes`; without a buffer of Python's, which would cost more than the reading."""
    parts, left = [], max_bytes
    while left > 0 and (part := os.read(fd, min(left, expected_bytes + 1))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def parse_document(data: bytes, name: str) -> dict[str, Any]:
    """Parse one JSON object; `name` is for the message. Raises `DataError`."""
    try:
        value = _decode(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: not valid JSON: {error}", "repair the file or remove it") from error
    if not isinstance(value, dict):
        raise DataError(f"{name}: not a JSON object")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number that is allowed here")


# `json.loads` makes a new one at each call.
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def through_json(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """Return `value` as it will be after a round trip through a file (lists for tuples, text keys).

    Raises
    ------
    DataError
        It cannot be written as JSON; `name` is for the message.
    """
    try:
        return dict(json.loads(json.dumps(value, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: {error}") from error


def dump_document(value: dict[str, Any]) -> str:
    """Return indented JSON with one table row per line, so that 100 atoms take 100 lines and not 500.

    Raises
    ------
    DataError
        The value holds something that JSON cannot say (NaN, infinity, an object).
    """
    try:
        return _dump(value, "") + "\n"
    except (TypeError, ValueError) as error:
        raise DataError(f"not writable as JSON: {error}") from error


def _dump(value: Any, indent: str) -> str:
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        rows = [f"{deeper}{json.dumps(str(key))}: {_dump(item, deeper)}" for key, item in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and value and isinstance(value[0], list | dict):
        return "[\n" + ",\n".join(f"{deeper}{json.dumps(row, allow_nan=False)}" for row in value) + f"\n{indent}]"
    return json.dumps(value, allow_nan=False)


def write_new(path: Path, data: bytes, *, fsync: bool) -> None:
    """Write a file that does not exist yet; nothing is left of it if that fails.

    Raises
    ------
    QueueError
        The disk is full or the quota used up (transient).
    """
    try:
        with path.open("xb") as handle:
            handle.write(data)
            handle.flush()
            if fsync:
                os.fsync(handle.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise QueueError(f"{path.name}: {error.strerror}", "free some space", transient=True) from error
