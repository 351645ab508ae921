"""The trajectory: read by others while it grows, whole after any kill, moved and shortened frame by frame."""

from __future__ import annotations

import errno
import gzip
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from mlip_autopipec.store.frames import END_BYTES, Stretch, stretches
from mlip_autopipec.store.trajectory import Trajectory


def frame(step: int, *, atoms: int = 6) -> Atoms:
    rng = np.random.default_rng(step)
    made = Atoms(f"Al{atoms}", positions=rng.uniform(0, 9, (atoms, 3)), cell=[9, 9, 9], pbc=True)
    made.set_momenta(rng.normal(size=(atoms, 3)))
    made.calc = SinglePointCalculator(made, energy=-1.5 * step, forces=rng.normal(size=(atoms, 3)))
    made.arrays["gamma"] = rng.uniform(0, 2, atoms)
    made.info.update(walker="w00", step=step, version="v0003")
    return made


@pytest.fixture
def trajectory(tmp_path: Path) -> Trajectory:
    made = Trajectory(tmp_path)
    for step in range(0, 50, 10):
        made.append(frame(step))
    return made


def read(path: Path) -> list[Atoms]:
    found = ase.io.read(path, index=":")
    assert isinstance(found, list)
    return found


def members(path: Path) -> list[Stretch]:
    return [stretch for stretch, _ in stretches(path)]


def steps_in(path: Path) -> list[int]:
    """The steps as ASE sees them."""
    return [atoms.info["step"] for atoms in read(path)]


def test_others_read_every_frame_with_gamma_and_version(trajectory: Trajectory) -> None:
    for step, found in zip(range(0, 50, 10), read(trajectory.path), strict=True):
        wanted = frame(step)
        assert (found.info["step"], found.info["version"], found.info["walker"]) == (step, "v0003", "w00")
        np.testing.assert_allclose(found.arrays["gamma"], wanted.arrays["gamma"], atol=1e-8)
        np.testing.assert_allclose(found.positions, wanted.positions, atol=1e-8)
        np.testing.assert_allclose(found.get_momenta(), wanted.get_momenta(), atol=1e-8)
        np.testing.assert_allclose(found.get_forces(), wanted.get_forces(), atol=1e-8)
        assert found.get_potential_energy() == pytest.approx(-1.5 * step)
    text = subprocess.run(["gzip", "-dc", trajectory.path], capture_output=True, check=True).stdout
    assert text.count(b"Lattice=") == 5
    assert trajectory.path.stat().st_size < 0.7 * len(text)
    assert trajectory.steps() == [0, 10, 20, 30, 40]


def test_gamma_beyond_all_numbers_is_a_number_for_others(tmp_path: Path) -> None:
    blind = frame(0)
    blind.arrays["gamma"][2] = np.inf
    Trajectory(tmp_path).append(blind)
    assert read(tmp_path / "trajectory.extxyz.gz")[0].arrays["gamma"].max() == 1e9
    assert np.isinf(blind.arrays["gamma"][2])  # the walker's own frame is left alone


@pytest.mark.parametrize("fraction", [0.0, 0.02, 0.3])
def test_half_a_frame_is_recognised_and_removed(
    trajectory: Trajectory, fraction: float, caplog: pytest.LogCaptureFixture
) -> None:
    whole = trajectory.path.read_bytes()
    last = members(trajectory.path)[-1]
    kept = last.offset + int(fraction * (last.size + END_BYTES))
    trajectory.path.write_bytes(whole[:kept])
    assert trajectory.steps() == [0, 10, 20, 30]
    trajectory.mend()
    assert steps_in(trajectory.path) == [0, 10, 20, 30]
    assert "damaged, 4 whole frames are kept" in caplog.text
    trajectory.append(frame(40))
    assert trajectory.path.read_bytes() == whole


def test_a_missing_end_costs_no_frame(trajectory: Trajectory) -> None:
    whole = trajectory.path.read_bytes()
    for cut in (1, END_BYTES):
        trajectory.path.write_bytes(whole[:-cut])
        Trajectory(trajectory.folder).append(frame(50))
        assert steps_in(trajectory.path) == [0, 10, 20, 30, 40, 50]


def test_a_kill_in_the_middle_of_a_frame_hides_no_other(trajectory: Trajectory) -> None:
    """What stands behind the stream until the frame is whole is nothing to `zcat`, and goes at the next start."""
    before = trajectory.path.read_bytes()
    trajectory.append(frame(50))
    after = trajectory.path.read_bytes()
    for size in (len(before) + 1, len(before) + 200, len(after)):
        trajectory.path.write_bytes(before + after[len(before) : size])
        unpacked = subprocess.run(["gzip", "-dcq", trajectory.path], capture_output=True, check=False).stdout
        assert unpacked.count(b"Lattice=") == 5
        again = Trajectory(trajectory.folder)
        again.mend()
        assert trajectory.path.read_bytes() == before
        again.append(frame(50))
        assert trajectory.path.read_bytes() == after


@pytest.mark.parametrize("what", ["zeros at the end", "zeros within", "a flipped bit"])
def test_what_a_power_cut_damages_costs_no_other_frame(trajectory: Trajectory, what: str) -> None:
    content, found = bytearray(trajectory.path.read_bytes()), members(trajectory.path)
    if what == "zeros at the end":
        content[found[3].offset + 50 :] = bytes(len(content) - found[3].offset - 50)
        left = [0, 10, 20]
    elif what == "zeros within":
        content[found[1].offset : found[2].offset + 20] = bytes(found[1].size + 20)
        left = [0, 30, 40]
    else:
        content[found[2].offset + found[2].size // 2] ^= 4
        left = [0, 10, 30, 40]
    trajectory.path.write_bytes(content)
    trajectory.mend()
    assert steps_in(trajectory.path) == left


def test_a_file_without_a_whole_frame_is_emptied(tmp_path: Path) -> None:
    trajectory = Trajectory(tmp_path)
    trajectory.append(frame(0))
    trajectory.path.write_bytes(trajectory.path.read_bytes()[:40])
    trajectory.mend()
    trajectory.append(frame(0))
    assert steps_in(trajectory.path) == [0]


def test_a_trajectory_of_an_earlier_version_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    older = tmp_path / "trajectory.extxyz"
    ase.io.write(older, [frame(0), frame(10)], format="extxyz")
    with older.open("a") as file:
        file.write("6\nLattice=")  # a power cut
    trajectory = Trajectory(tmp_path)
    trajectory.mend()
    trajectory.append(frame(20))
    assert "in the middle of a frame" in caplog.text
    assert not older.exists()
    assert steps_in(trajectory.path) == trajectory.steps() == [0, 10, 20]
    np.testing.assert_allclose(read(trajectory.path)[1].arrays["gamma"], frame(10).arrays["gamma"], atol=1e-8)


def test_a_file_that_was_unpacked_and_packed_again_goes_on(trajectory: Trajectory) -> None:
    text = gzip.decompress(trajectory.path.read_bytes())
    trajectory.path.write_bytes(gzip.compress(text))
    trajectory.path.with_suffix("").write_bytes(text)  # somebody's copy, which is none of ours
    trajectory.mend()
    assert trajectory.steps() == [0, 10, 20, 30, 40]
    assert gzip.decompress(trajectory.path.read_bytes()) == text
    assert trajectory.path.with_suffix("").read_bytes() == text


@pytest.mark.parametrize("content", [b"", b"no gzip at all\n", None])
def test_what_nobody_can_read_to_its_end_is_kept_aside(trajectory: Trajectory, content: bytes | None) -> None:
    if content is None:  # packed by somebody, and cut in the middle
        packed = gzip.compress(gzip.decompress(trajectory.path.read_bytes()))
        content = packed[: len(packed) // 2]
    trajectory.path.write_bytes(content)
    trajectory.path.with_name(f".{trajectory.path.name}.0123abcd.tmp").write_bytes(b"a kill left this")
    trajectory.mend()
    trajectory.append(frame(90))
    assert steps_in(trajectory.path)[-1] == 90
    assert [p.read_bytes() for p in trajectory.folder.glob("*.damaged")] == [content] * bool(content)
    assert not list(trajectory.folder.glob(".*.tmp"))


def test_abandoned_frames_move_as_they_are(trajectory: Trajectory) -> None:
    assert trajectory.abandon(40) is None
    tail = trajectory.abandon(20)
    assert tail is not None
    assert tail.name == "tail-0001-after-step20.extxyz.gz"
    assert steps_in(tail) == [30, 40]
    trajectory.append(frame(25))
    assert steps_in(trajectory.path) == [0, 10, 20, 25]
    other = trajectory.abandon(0)
    assert other is not None
    tail.unlink()  # retention.excursions
    trajectory.append(frame(5))
    again = trajectory.abandon(0)
    assert again is not None
    assert again.name == "tail-0003-after-step0.extxyz.gz"  # nothing is overwritten


def test_the_oldest_frames_go_first(trajectory: Trajectory) -> None:
    size = trajectory.path.stat().st_size
    assert trajectory.shorten(size) == 0
    trajectory.append(frame(50))
    assert trajectory.shorten(size) == 2
    assert steps_in(trajectory.path) == [20, 30, 40, 50]
    assert trajectory.shorten(1) == 3
    assert steps_in(trajectory.path) == [50]


def test_cut_counts_what_it_removes(trajectory: Trajectory) -> None:
    assert (trajectory.cut(40), trajectory.cut(15), trajectory.cut(-1)) == (0, 3, 2)
    assert trajectory.steps() == []
    trajectory.mend()


WRITER = """
import sys, numpy as np
from pathlib import Path
from ase import Atoms
from mlip_autopipec.store.trajectory import Trajectory

trajectory = Trajectory(Path(sys.argv[1]))
trajectory.mend()
frame = Atoms("Al2000", positions=np.random.default_rng(0).uniform(0, 30, (2000, 3)))
step = max(trajectory.steps(), default=-1)
while True:
    step += 1
    frame.info["step"] = step
    trajectory.append(frame)
"""


@pytest.mark.slow
def test_kills_leave_whole_frames(tmp_path: Path) -> None:
    """Whole frames of 100 kB, in order, whenever the writer is killed; the next one goes on where it stood."""
    random.seed(1)
    count = 0
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)]) as writer:
            path, deadline = tmp_path / "trajectory.extxyz.gz", time.monotonic() + 60
            while not (path.exists() and len(members(path)) > count) and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(random.uniform(0, 0.1))
            writer.send_signal(signal.SIGKILL)
        count = len(members(path))
    trajectory = Trajectory(tmp_path)
    trajectory.mend()
    assert trajectory.steps() == list(range(count))
    assert steps_in(trajectory.path) == trajectory.steps()
    assert count > 4


def test_a_full_disk_moves_nothing(trajectory: Trajectory, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = trajectory.path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        trajectory.abandon(10)
    assert trajectory.path.read_bytes() == before
    assert not list((trajectory.folder / "excursions").iterdir())
