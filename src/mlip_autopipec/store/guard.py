"""Who else may write into the queue's folders: a task file says what is computed, so strangers must not make any."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mlip_autopipec.core.errors import QueueError
from mlip_autopipec.store.layout import SERVICE_FOLDERS, STATES, Layout

_ROOT_UID: Final = 0


class Trespass(QueueError):  # noqa: N818  says what is
    """Strangers may write where only this run's workers should."""

    exit_code = 78


def trespasses(layout: Layout, results: Path) -> Iterator[tuple[str, str]]:
    """Iterate over (what is wrong, the command that mends it) for the folders of a queue and its results.

    Right are folders of this user or of root that not everybody may write to. Members of the group may: that is how a
    queue is shared.
    """
    own = os.geteuid()
    folders = [layout.root, *(layout.root / name for name in (*STATES, *SERVICE_FOLDERS)), results]
    for folder in folders:
        try:
            status = folder.lstat()
        except FileNotFoundError:
            continue
        quoted = shlex.quote(str(folder))
        if stat.S_ISLNK(status.st_mode):
            yield f"{folder}: is a symbolic link", f"rm {quoted} && mkdir {quoted}"
        elif status.st_uid not in (own, _ROOT_UID):
            yield f"{folder}: belongs to user {status.st_uid}, not to you ({own})", f"chown -R {own} {quoted}"
        elif status.st_mode & stat.S_IWOTH:
            yield f"{folder}: everybody may write to it", f"chmod -R o-w {quoted}"


def guard(layout: Layout, results: Path) -> None:
    """Refuse to work in a queue that strangers may write to.

    Raises
    ------
    Trespass
        A folder is world-writable, foreign or a link; the hint is the command that mends it.
    """
    for what, command in trespasses(layout, results):
        raise Trespass(what, command)


def tighten_umask() -> None:
    """Make no file of this process writable for everybody, whatever the user's umask says."""
    os.umask(os.umask(0o022) | 0o002)
