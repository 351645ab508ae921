"""Frames of MD as members of one gzip file, each of which says how long it is and of which step.

A gzip file may consist of any number of members (RFC 1952), and whoever reads it sees one text: ASE, OVITO and `zcat`
read an extxyz of many frames. What only we read is the extra field of each member's header: with it frames are
counted, cut off and moved without a look at their content, and what a kill left of the last one is recognised.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Fixed part of a header: magic, deflate, FEXTRA, no time, fastest, unknown system; one field AP of 16 bytes.
_START: Final = b"\x1f\x8b\x08\x04\0\0\0\0\x04\xff" + struct.pack("<H2sH", 20, b"AP", 16)
_FACTS: Final = struct.Struct("<QQ")  # bytes of the whole member, step
_END: Final = struct.Struct("<II")  # CRC-32 and length of the text
_HEADER_BYTES: Final = len(_START) + _FACTS.size
_LEAST_BYTES: Final = _HEADER_BYTES + 2 + _END.size
# Numbers of MD hardly repeat: a higher level takes several times as long and saves a few percent.
_LEVEL: Final = 1


@dataclass(frozen=True)
class Member:
    """Where one frame stands: byte offset, bytes, MD step."""

    offset: int
    size: int
    step: int

    @property
    def end(self) -> int:
        return self.offset + self.size


def pack(text: bytes, step: int) -> bytes:
    """Return one frame's text as a member."""
    squeeze = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = squeeze.compress(text) + squeeze.flush()
    size = _HEADER_BYTES + len(body) + _END.size
    end = _END.pack(zlib.crc32(text), len(text) & 0xFFFFFFFF)
    return b"".join((_START, _FACTS.pack(size, step), body, end))


def unpack(member: bytes) -> bytes | None:
    """Return the text of a member; None if it is damaged."""
    try:
        text = zlib.decompress(member[_HEADER_BYTES : -_END.size], -zlib.MAX_WBITS)
    except zlib.error:
        return None
    return text if _END.unpack(member[-_END.size :]) == (zlib.crc32(text), len(text) & 0xFFFFFFFF) else None


def members(path: Path, *, proven_bytes: int = 0) -> list[Member]:
    """Return the whole frames of a file, in its order; what is none is left out.

    Parameters
    ----------
    proven_bytes
        The frames in this last part of the file are unpacked to see whether they are sound; of the others only the
        headers are read.
    """
    if not path.exists() or not path.stat().st_size:
        return []
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        prove_from = len(content) - proven_bytes
        found = _walk(content)
        return [m for m in found if m.end <= prove_from or unpack(content[m.offset : m.end]) is not None]


def is_ours(path: Path) -> bool:
    """True if a file is empty or begins with a frame of ours: not one that somebody packed with another program."""
    with path.open("rb") as handle:
        begin = handle.read(len(_START))
    return _START.startswith(begin)


def _walk(content: mmap.mmap) -> Iterator[Member]:
    position = 0
    while position + _LEAST_BYTES <= len(content):
        if content[position : position + len(_START)] == _START:
            size, step = _FACTS.unpack_from(content, position + len(_START))
            if size >= _LEAST_BYTES and position + size <= len(content):
                yield Member(position, size, step)
                position += size
                continue
        # Damaged: on with the next header.
        position = content.find(_START, position + 1)
        if position < 0:
            return
