"""Room on the disk: when walkers pause, and go on."""

from __future__ import annotations

from pathlib import Path

from mlip_autopipec.core.clock import ManualClock
from mlip_autopipec.runtime.room import NO_ROOM, Room


def test_it_is_missing_below_the_limit_and_back_a_little_above(tmp_path: Path) -> None:
    clock, free, looks = ManualClock(), [3e9], []

    def tell(folder: Path) -> int:
        looks.append(folder)
        return int(free[0])

    room = Room(tmp_path, 2.0, free=tell, monotonic=clock.monotonic)
    assert not room.missing()
    for gigabytes, is_missing in ((1.99, True), (2.05, True), (2.2, False), (2.05, False)):
        free[0] = gigabytes * 1e9
        clock.advance(10)
        assert bool(room.missing()) is is_missing, gigabytes
    free[0] = 0.0
    before = len(looks)
    assert not room.missing()  # looked a moment ago
    assert len(looks) == before
    clock.advance(10)
    assert room.missing().startswith(f"{NO_ROOM} of {tmp_path}: 0.0 GB free of retention.min_free_gb 2")


def test_zero_never_looks(tmp_path: Path) -> None:
    def never(_: Path) -> int:
        raise AssertionError

    assert not Room(tmp_path, 0.0, free=never).missing()


def test_the_real_disk(tmp_path: Path) -> None:
    assert not Room(tmp_path, 1e-9).missing()
    assert Room(tmp_path, 1e6).missing()
