"""What the disk refuses, as an error with a hint: folders that are read-only, foreign or full are no bugs of ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from mlip_autopipec.core.errors import AutopipeError, ConfigError

_HINTS: Final = {
    errno.EACCES: "look at owner and mode with ls -ld; or choose another folder",
    errno.EPERM: "look at owner and mode with ls -ld; or choose another folder",
    errno.EROFS: "choose a folder on a disk that can be written to",
    errno.ENOTDIR: "choose a path whose parents are folders",
    errno.EISDIR: "there is a folder where a file belongs: move it away",
    errno.EEXIST: "there is a file where a folder belongs: move it away",
    errno.ENOENT: "does its folder exist, and was it not removed in this moment?",
}
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn the `OSError`s that a user can mend into errors of the house; the others stay what they are."""
    try:
        yield
    except OSError as error:
        name = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else ""
        message = f"{name}: {error.strerror}" if name else str(error)
        if error.errno in _FULL:
            raise AutopipeError(message, "make room, then try again", transient=True) from error
        if name and error.errno in _HINTS:
            raise ConfigError(message, _HINTS[error.errno]) from error
        raise
