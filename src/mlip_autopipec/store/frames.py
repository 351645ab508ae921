"""Frames of MD in one gzip stream that can be appended to, cut and mended at the frames' borders.

Each frame is a stretch of deflate blocks that ends in a full flush (RFC 1951): it starts at a byte, and is unpacked
without what comes before. So whoever reads gzip reads one text (OVITO reads no further than the first member of a file
of several members: 3.17), and we find the frames again, also behind a damaged one. The stream always has its end, an
empty last block with checksum and length, which the next frame overwrites.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

# Magic, deflate, no flags, no time, fastest, unknown system.
HEADER: Final = b"\x1f\x8b\x08\0\0\0\0\0\x04\xff"
_FLUSH: Final = b"\0\0\xff\xff"  # how a full flush ends; also by chance, once in 4 GB
_LAST_BLOCK: Final = b"\x03\0"
_SUM: Final = struct.Struct("<II")  # CRC-32 and length of the text
END_BYTES: Final = len(_LAST_BLOCK) + _SUM.size
_MODULUS: Final = 1 << 32
_CHUNK_BYTES: Final = 1 << 22
# Numbers of MD hardly repeat: a higher level takes several times as long and saves a few percent.
_LEVEL: Final = 1
# The step of a frame in its comment line.
_STEP: Final = re.compile(rb"(?:^|\s)step=(\d+)(?:\s|$)")


@dataclass(frozen=True)
class Checksum:
    """CRC-32 and length (modulo 2^32) of the text so far."""

    crc: int = 0
    length: int = 0

    def after(self, text: bytes) -> Checksum:
        return Checksum(zlib.crc32(text, self.crc), (self.length + len(text)) % _MODULUS)

    def end(self) -> bytes:
        """Return the end of the stream."""
        return _LAST_BLOCK + _SUM.pack(self.crc, self.length)

    @classmethod
    def of_end(cls, end: bytes) -> Checksum | None:
        """Return what the end of a stream says; None if it is none."""
        whole = len(end) == END_BYTES and end.startswith(_LAST_BLOCK)
        return cls(*_SUM.unpack(end[len(_LAST_BLOCK) :])) if whole else None


@dataclass(frozen=True)
class Stretch:
    """Where one frame stands: byte offset, bytes, MD step; and the checksum of all text up to its end."""

    offset: int
    size: int
    step: int
    total: Checksum

    @property
    def end(self) -> int:
        return self.offset + self.size


def pack(text: bytes) -> bytes:
    """Return one frame's text as a stretch."""
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeeze.compress(text) + squeeze.flush(zlib.Z_FULL_FLUSH)


def stretches(path: Path) -> Iterator[tuple[Stretch, bytes]]:
    """Yield every whole frame of a file and its text; what is none is left out."""
    if not path.exists():
        return
    # Read, not mapped: another process may cut the file meanwhile, which kills whoever has mapped it.
    with path.open("rb") as handle:
        handle.seek(len(HEADER))
        base, total, content = len(HEADER), Checksum(), bytearray()
        begin = border = position = 0  # in `content`, which begins at `base`
        while chunk := handle.read(_CHUNK_BYTES):
            content += chunk
            while (found := content.find(_FLUSH, position)) >= 0:
                position, end = found + 1, found + len(_FLUSH)
                # Behind a damaged frame the next one begins at the border before this one.
                for start in dict.fromkeys((begin, border)):
                    if (text := _frame_in(content[start:end])) is not None:
                        total = total.after(text)
                        yield Stretch(base + start, end - start, step_of(text), total), text
                        begin = position = end
                        break
                border = end
            position = max(position, len(content) - len(_FLUSH) + 1)
            del content[:begin]
            base, border, position, begin = base + begin, max(border - begin, 0), position - begin, 0


def _frame_in(packed: bytes | bytearray) -> bytes | None:
    """Return the text of a frame, if it is one from its number of atoms to its last line."""
    try:
        text = zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed)
    except zlib.error:
        return None
    count = text.split(b"\n", 1)[0].strip()
    whole = count.isdigit() and text.endswith(b"\n") and text.count(b"\n") == int(count) + 2
    return text if whole else None


def step_of(text: bytes) -> int:
    """Return the step of a frame; one that tells none belongs to the beginning."""
    found = _STEP.search(text.split(b"\n", 2)[1])
    return int(found[1]) if found else 0


def write_stream(target: BinaryIO, texts: Iterator[tuple[bytes, bytes]]) -> int:
    """Write a whole stream of frames, given as stretch and text each; return how many there were."""
    target.write(HEADER)
    count, total = 0, Checksum()
    for stretch, text in texts:
        target.write(stretch)
        count, total = count + 1, total.after(text)
    target.write(total.end())
    return count


def is_ours(path: Path) -> bool:
    """True if a file is empty or begins as ours do: it was not packed with another program."""
    with path.open("rb") as handle:
        return HEADER.startswith(handle.read(len(HEADER)))
