"""Lines that are appended are whole or absent, also on a disk that takes half of one."""

from __future__ import annotations

import contextlib
import errno
import json
import resource
from collections.abc import Iterator
from pathlib import Path

import ase.io
import pytest
from ase import Atoms

from mlip_autopipec.core.events import EventLog, read_events
from mlip_autopipec.core.files import append_line
from mlip_autopipec.store.trajectory import Trajectory


@contextlib.contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond so many bytes: the kernel then writes as much as fits, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_half_a_line_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, "first")
    with room_for(10), pytest.raises(OSError) as caught:
        append_line(path, "second and longer")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_text() == "first\n"
    append_line(path, "third")
    assert path.read_text() == "first\nthird\n"


def test_half_a_line_of_a_power_cut_swallows_no_other(tmp_path: Path) -> None:
    log = EventLog(tmp_path, "w00")
    log.emit("md_started", walker="w00")
    with log.path.open("ab") as handle:
        handle.write(b'{"time": "2026-')
    log.emit("md_completed", walker="w00")
    assert [event["event"] for event in read_events(log.path)] == ["md_started", "md_completed"]


def test_what_is_no_event_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "w00.jsonl"
    good = json.dumps({"event": "md_started", "task_ids": ["a"]})
    path.write_bytes(f'{{"event": "gam{good}\n[1]\n'.encode() + b"\xff\xfe\n" + f"{good}\n{good[:9]}".encode())
    assert read_events(path) == [json.loads(good)]
    assert f"{path}:1: not an event" in caplog.text


def test_half_a_frame_is_taken_back(tmp_path: Path) -> None:
    trajectory, frame = Trajectory(tmp_path), Atoms("Al8", positions=[[i, 0, 0] for i in range(8)])
    trajectory.append(frame)
    size = (tmp_path / "trajectory.extxyz.gz").stat().st_size
    with room_for(size + size // 2), pytest.raises(OSError, match="No space"):
        trajectory.append(frame)
    trajectory.append(frame)
    assert [len(atoms) for atoms in ase.io.read(tmp_path / "trajectory.extxyz.gz", ":")] == [8, 8]
