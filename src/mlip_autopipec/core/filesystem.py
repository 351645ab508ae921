"""Which kind of filesystem a folder lies on: other hosts may write to some, and the kernel does not tell us when."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Final

# Only what is surely seen by this host alone; of anything else nobody may rely on being told about changes.
_LOCAL: Final = frozenset(
    {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
)
_SHARED: Final = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "fuse", "9p", "ceph", "afs")


def is_gone(error: OSError) -> bool:
    """True if what was asked for is not there: over NFS a folder that another host removed is stale, not missing."""
    return error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE)


def filesystem_of(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the kind of the filesystem that a folder lies on, "" if the system does not tell."""
    try:
        lines = [line.split() for line in mounts.read_text(errors="surrogateescape").splitlines()]
    except OSError:
        return ""
    resolved = folder.resolve()
    # Of two mounts on the same place the later one counts.
    inside = [
        (len(point), number, line[2])
        for number, line in enumerate(lines)
        if len(line) > 2 and resolved.is_relative_to(point := _unescaped(line[1]))
    ]
    return max(inside, default=(0, 0, ""))[2]


def is_local(kind: str) -> bool:
    """True if no other host can write to such a filesystem; false when unsure."""
    return kind in _LOCAL


def is_shared(kind: str) -> bool:
    """True if other hosts probably write to such a filesystem."""
    return kind.startswith(_SHARED)


def _unescaped(point: str) -> str:
    for code, char in ((r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", "\\")):
        point = point.replace(code, char)
    return point
