"""The accepted branch of a walker: `trajectory.extxyz.gz`, readable by ASE, OVITO and `zcat` while it grows."""

from __future__ import annotations

import gzip
import itertools
import logging
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.files import append_whole, fsync_directory
from mlip_autopipec.store.extxyz import text_of
from mlip_autopipec.store.frames import Member, is_ours, members, pack

log = logging.getLogger(__name__)

NAME: Final = "trajectory.extxyz.gz"
_OLDER: Final = "trajectory.extxyz"  # as it was written before frames were compressed
# The step of a frame in its comment line.
_STEP: Final = re.compile(rb"(?:^|\s)step=(\d+)(?:\s|$)")
_TAIL: Final = re.compile(r"tail-(\d+)-.*")
# A power cut damages what was written in the last half minute.
_PROVEN_BYTES: Final = 1 << 24
# Infinity is a legal gamma (a pair that no basis function sees), but not every reader's number.
_LARGEST_GAMMA: Final = 1e9
_KEPT_FRACTION: Final = 0.8


class Trajectory:
    """Frames of one walker in the order of their steps; one writer.

    Parameters
    ----------
    folder
        `walkers/wNN/`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / NAME

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
        append_whole(self.path, pack(text_of(written), int(frame.info.get("step", 0))))

    def steps(self) -> list[int]:
        """Return the steps of the frames."""
        return [member.step for member in members(self.path)]

    def mend(self) -> None:
        """Remove what a kill or a power cut left of frames, and take over what an earlier version wrote. At the start.

        A file that somebody unpacked and packed again is taken over as well.
        """
        older = self.folder / _OLDER
        if not self.path.exists() and older.exists():
            with older.open("rb") as text:
                self._take_over(text, older)
            older.unlink()
        elif self.path.exists() and not is_ours(self.path):
            with gzip.open(self.path, "rb") as unpacked:
                self._take_over(unpacked, self.path)
        if not self.path.exists():
            return
        sound, size = members(self.path, proven_bytes=_PROVEN_BYTES), self.path.stat().st_size
        damaged = size - sum(member.size for member in sound)
        if damaged:
            log.warning("%s: %d bytes of damaged frames removed", self.path, damaged)
            self._keep(sound)

    def cut(self, step: int) -> int:
        """Remove the frames later than `step`; return how many there were."""
        found = members(self.path)
        kept = [member for member in found if member.step <= step]
        if len(kept) < len(found):
            self._keep(kept)
        return len(found) - len(kept)

    def abandon(self, step: int) -> Path | None:
        """Move the frames later than `step` to `excursions/`: MD goes on from there another way.

        Returns
        -------
        Path or None
            Where they are now; None if there were none. After a kill in between they may stand in both places.
        """
        later = [member for member in members(self.path) if member.step > step]
        if not later:
            return None
        folder = self.folder / "excursions"
        folder.mkdir(exist_ok=True)
        numbers = [int(found[1]) for path in folder.iterdir() if (found := _TAIL.fullmatch(path.name))]
        target = folder / f"tail-{max(numbers, default=0) + 1:04d}-after-step{step}.extxyz.gz"
        self._copy(later, target)
        self.cut(step)
        return target

    def shorten(self, most_bytes: float) -> int:
        """Remove the oldest frames, a fifth of the file, if it has become larger than this; return how many."""
        if not self.path.exists() or self.path.stat().st_size <= most_bytes:
            return 0
        found = members(self.path)
        ends = list(itertools.accumulate(member.size for member in reversed(found)))
        kept = max(1, sum(end <= _KEPT_FRACTION * most_bytes for end in ends))
        self._keep(found[-kept:])
        return len(found) - kept

    def _keep(self, kept: Sequence[Member]) -> None:
        """Leave only these frames in the file."""
        end = sum(member.size for member in kept)
        if not kept or kept[-1].end == end:  # all from the beginning on
            with self.path.open("r+b") as handle:
                handle.truncate(end)
                os.fsync(handle.fileno())
        else:
            self._copy(kept, self.path)

    def _copy(self, kept: Sequence[Member], target: Path) -> None:
        """Replace `target` by these frames."""

        def pieces(source: BinaryIO) -> Iterator[bytes]:
            for member in kept:
                source.seek(member.offset)
                yield source.read(member.size)

        with self.path.open("rb") as source:
            _replace(target, pieces(source))

    def _take_over(self, source: BinaryIO | gzip.GzipFile, path: Path) -> None:
        """Write the frames of a text file as our own; half a frame at its end is left out."""
        count = _replace(self.path, (pack(text, _step_of(text)) for text in _texts(source, path)))
        log.info("%s: %d frames taken over into %s", path, count, self.path.name)


def _replace(target: Path, pieces: Iterator[bytes]) -> int:
    """Write a file piece by piece, and let it appear whole; return the number of pieces."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    count = 0
    try:
        with temporary.open("xb") as handle:
            for count, piece in enumerate(pieces, start=1):  # noqa: B007
                handle.write(piece)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    fsync_directory(target.parent)
    return count


def _texts(source: BinaryIO | gzip.GzipFile, path: Path) -> Iterator[bytes]:
    """Yield the text of every whole frame."""
    try:
        while (first := source.readline()).strip():
            lines = [first, *itertools.islice(source, 1 + int(first))]
            if len(lines) < 2 + int(first) or not lines[-1].endswith(b"\n"):
                break
            yield b"".join(lines)
        else:
            return
    except (EOFError, ValueError):
        pass
    log.warning("%s: ends in the middle of a frame, which is left out", path)


def _step_of(text: bytes) -> int:
    """Return the step of a frame; one that tells none belongs to the beginning."""
    found = _STEP.search(text.split(b"\n", 2)[1])
    return int(found[1]) if found else 0
