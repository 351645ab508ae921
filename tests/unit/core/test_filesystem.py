"""Kinds of filesystems."""

from pathlib import Path

import pytest

from mlip_autopipec.core.filesystem import filesystem_of, is_local, is_shared

MOUNTS = r"""
rootfs / rootfs rw 0 0
/dev/vda / ext4 rw 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw 0 0
tmpfs /home/a\040b tmpfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [("/", "ext4"), ("/homework", "ext4"), ("/home/x/run", "nfs4"), ("/home/a b/run", "tmpfs"), ("/home/a", "nfs4")],
)
def test_the_innermost_mount_counts(tmp_path, folder, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert filesystem_of(Path(folder), mounts) == kind


def test_a_system_that_does_not_tell(tmp_path):
    assert filesystem_of(tmp_path, tmp_path / "none") == ""
    assert filesystem_of(Path("/proc")) in ("proc", "")


def test_when_unsure_neither():
    assert [is_local(k) for k in ("ext4", "tmpfs", "nfs4", "fuse.sshfs", "unheard-of", "")] == [True] * 2 + [False] * 4
    assert [is_shared(k) for k in ("ext4", "nfs", "nfs4", "fuse.sshfs", "unheard-of", "")] == [
        False, True, True, True, False, False,
    ]  # fmt: skip
