"""The accepted branch of a walker: `trajectory.extxyz.gz`, readable by ASE, OVITO and `zcat` while it grows."""

from __future__ import annotations

import errno
import gzip
import itertools
import logging
import os
import re
import secrets
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.files import fsync_directory, write_bytes
from mlip_autopipec.store.extxyz import text_of
from mlip_autopipec.store.frames import (
    END_BYTES,
    HEADER,
    Checksum,
    Stretch,
    is_ours,
    pack,
    step_of,
    stretches,
    write_stream,
)
from mlip_autopipec.store.rundir import TRAJECTORY

log = logging.getLogger(__name__)

_OLDER: Final = "trajectory.extxyz"  # as it was written before frames were compressed
_TAIL: Final = re.compile(r"tail-(\d+)-.*")
# Infinity is a legal gamma (a pair that no basis function sees), but not every reader's number.
_LARGEST_GAMMA: Final = 1e9
_KEPT_FRACTION: Final = 0.8


class Trajectory:
    """Frames of one walker in the order of their steps; one writer.

    The file is read once, by `mend` or the first question about steps; then it is known where each frame stands.

    Parameters
    ----------
    folder
        `walkers/wNN/`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / TRAJECTORY
        self._known: list[Stretch] | None = None

    def append(self, frame: Atoms) -> None:
        """Append a frame in one write. `info["step"]` is its step; larger ones come later.

        Raises
        ------
        OSError
            The disk is full; nothing was appended.
        """
        written = frame.copy()
        written.calc = frame.calc
        if "gamma" in frame.arrays:
            written.arrays["gamma"] = np.minimum(frame.arrays["gamma"], _LARGEST_GAMMA)
        text = text_of(written)
        stretch = pack(text)
        offset = self._write(stretch, text)
        if self._known is not None:
            total = (self._known[-1].total if self._known else Checksum()).after(text)
            self._known.append(Stretch(offset, len(stretch), step_of(text), total))

    def steps(self) -> list[int]:
        """Return the steps of the frames."""
        return [stretch.step for stretch in self._frames()]

    def mend(self) -> None:
        """Remove what a kill or a power cut left of frames, and take over what an earlier version wrote. At the start.

        A file that somebody unpacked and packed again is taken over as well.
        """
        for left in (*self.folder.glob(f".{TRAJECTORY}.*.tmp"), *self.folder.glob("excursions/.tail-*.tmp")):
            left.unlink(missing_ok=True)
        older = self.folder / _OLDER
        if not self.path.exists() and older.exists():
            with older.open("rb") as text:
                self._take_over(text, older)
            older.unlink()
        elif self.path.exists() and not is_ours(self.path):
            with gzip.open(self.path, "rb") as unpacked:
                self._take_over(unpacked, self.path)
        self._known = None
        if not self.path.exists():
            return
        found = self._frames()
        sound, total = len(HEADER) + sum(s.size for s in found), found[-1].total if found else Checksum()
        if self.path.stat().st_size != sound + END_BYTES or self._end() != total.end():
            log.warning("%s: damaged, %d whole frames are kept", self.path, len(found))
            if not found or found[-1].end == sound:
                self._keep_first(len(found))
            else:
                self._keep(lambda _: True)

    def cut(self, step: int) -> int:
        """Remove the frames later than `step`; return how many there were."""
        found = self._frames()
        kept = next((k for k, stretch in enumerate(found) if stretch.step > step), len(found))
        if kept < len(found):
            self._keep_first(kept)
        return len(found) - kept

    def abandon(self, step: int) -> Path | None:
        """Move the frames later than `step` to `excursions/`: MD goes on from there another way.

        Returns
        -------
        Path or None
            Where they are now; None if there were none. After a kill in between they may stand in both places.
        """
        if not any(stretch.step > step for stretch in self._frames()):
            return None
        folder = self.folder / "excursions"
        folder.mkdir(exist_ok=True)
        numbers = [int(found[1]) for path in folder.iterdir() if (found := _TAIL.fullmatch(path.name))]
        target = folder / f"tail-{max(numbers, default=0) + 1:04d}-after-step{step}.extxyz.gz"
        self._copy(target, lambda stretch: stretch.step > step)
        self.cut(step)
        return target

    def shorten(self, most_bytes: float) -> int:
        """Remove the oldest frames, a fifth of the file, if it has become larger than this; return how many."""
        if not self.path.exists() or self.path.stat().st_size <= most_bytes:
            return 0
        found = self._frames()
        ends = list(itertools.accumulate(stretch.size for stretch in reversed(found)))
        kept = max(1, sum(end <= _KEPT_FRACTION * most_bytes for end in ends))
        first = found[-kept].offset
        self._keep(lambda stretch: stretch.offset >= first)
        return len(found) - kept

    def _frames(self) -> list[Stretch]:
        if self._known is None:
            self._known = [stretch for stretch, _ in stretches(self.path)]
        return self._known

    def _end(self) -> bytes:
        """Return the last bytes of the file: the end of the stream, if it is whole."""
        with self.path.open("rb") as handle:
            handle.seek(max(0, self.path.stat().st_size - END_BYTES))
            return handle.read()

    def _write(self, stretch: bytes, text: bytes) -> int:
        """Write a frame and a new end behind the end of the stream, then its first bytes over that end.

        So a kill leaves the whole stream of before, perhaps with something behind it. Returns the frame's offset.
        """
        if not self.path.exists() or not self.path.stat().st_size:
            write_bytes(self.path, HEADER + Checksum().end())
        total = Checksum.of_end(self._end())
        if total is None:
            self.mend()
            total = Checksum.of_end(self._end()) or Checksum()
        offset = self.path.stat().st_size - END_BYTES
        data = stretch + total.after(text).end()
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            behind = data[END_BYTES:]
            if os.pwrite(descriptor, behind, offset + END_BYTES) < len(behind):
                os.ftruncate(descriptor, offset + END_BYTES)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            os.pwrite(descriptor, data[:END_BYTES], offset)
            # Before the state that counts it, which is synced, too: a frame that a power cut took is never made again.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return offset

    def _keep_first(self, count: int) -> None:
        """Cut the file behind so many frames."""
        kept = self._frames()[:count]
        end, total = (kept[-1].end, kept[-1].total) if kept else (len(HEADER), Checksum())
        with self.path.open("r+b") as handle:
            handle.write(HEADER)
            handle.seek(end)
            handle.write(total.end())
            handle.truncate()
            handle.flush()
            os.fsync(handle.fileno())
        self._known = kept

    def _keep(self, wanted: Callable[[Stretch], bool]) -> None:
        """Leave only these frames in the file."""
        self._copy(self.path, wanted)
        self._known = None

    def _copy(self, target: Path, wanted: Callable[[Stretch], bool]) -> None:
        """Replace `target` by these frames."""

        def pieces() -> Iterator[tuple[bytes, bytes]]:
            with self.path.open("rb") as source:
                for stretch, text in stretches(self.path):
                    if wanted(stretch):
                        source.seek(stretch.offset)
                        yield source.read(stretch.size), text

        _replace(target, pieces())

    def _take_over(self, source: BinaryIO | gzip.GzipFile, path: Path) -> None:
        """Write the frames of a text file as our own; half a frame at its end is left out.

        A packed file that cannot be read to its end is kept beside it.
        """
        aside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.damaged")
        os.link(path, aside)
        damage: list[str] = []
        count = _replace(self.path, ((pack(text), text) for text in _texts(source, path, damage)))
        log.info("%s: %d frames taken over into %s", path, count, self.path.name)
        if damage and path == self.path:
            log.warning("%s: what cannot be read of it is kept as %s: %s", path, aside.name, damage[0])
        else:
            aside.unlink()


def _replace(target: Path, frames: Iterator[tuple[bytes, bytes]]) -> int:
    """Write a stream frame by frame, and let it appear whole; return the number of frames."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as handle:
            count = write_stream(handle, frames)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_directory(target.parent)
    return count


def _texts(source: BinaryIO | gzip.GzipFile, path: Path, damage: list[str]) -> Iterator[bytes]:
    """Yield the text of every whole frame; `damage` gets why it ends too early, if it does."""
    try:
        while (first := source.readline()).strip():
            lines = [first, *itertools.islice(source, 1 + int(first))]
            if len(lines) < 2 + int(first) or not lines[-1].endswith(b"\n"):
                break
            yield b"".join(lines)
        else:
            return
    except (EOFError, ValueError, gzip.BadGzipFile, zlib.error) as error:
        damage.append(f"{type(error).__name__}: {error}")
    log.warning("%s: ends in the middle of a frame, which is left out", path)
