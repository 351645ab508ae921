"""On which side of the fence a label stands: learned, or held out to judge versions by.

The side follows from where a label comes from and from nothing else, so it never changes and survives a rebuild. What
follows each other in time (frames of a file, steps of a walker) is cut into segments, of which every tenth is held
out: which one of a walker is a matter of hash, but never its first, where most of its whole cells come from. At the
ends of such a segment a margin belongs to neither side: what is next to it in time is learned.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, Literal

AUDIT: Final = "audit"
"""The `config_type` of labels that are never trained on."""

FORMER_AUDIT: Final = "former_audit"
"""An audit of another run: no draw of what this one visits."""

Side = Literal["train", "validation", "margin"]

_SHARE: Final = 0.1
_EVERY: Final = 10
# Of ten segments of a file: sets of 60 frames hold out 8, smaller ones that need each frame none.
_OF_START: Final = 5
# Frames of a file, steps of a walker: length of a segment, and of the margin at either end.
_FRAMES: Final = (10, 1)
_STEPS: Final = (1000, 100)


def side_of(config_type: str, origin: Mapping[str, Any]) -> Side:
    """Return the side of one label.

    Held out are audits, and of start structures and whole cells a share. What a walker asked for is learned, since it
    waits for that; so are the first frames of a file, without which there is no potential to begin with.

    Parameters
    ----------
    origin
        Of the task: `source` with `number` of the frame, or `of` (walker) and `step`; `parent` of a seed.
    """
    if config_type == AUDIT:
        return "validation"
    source = origin.get("source")
    if "parent" in origin:
        return "validation" if _is_held_out(f"parent {origin['parent']}") else "train"
    if source in ("bootstrap", "start.dataset"):
        number = _count(origin.get("number"))
        # One series, whichever of the file's frames came with labels.
        return _in_segment(_OF_START, number, *_FRAMES) if number is not None and number >= _FRAMES[0] else "train"
    step = _count(origin.get("step"))
    if source == "whole_cell" and step is not None:
        return _in_segment(1 + _hash(f"whole_cell {origin.get('of')}") % (_EVERY - 1), step, *_STEPS)
    return "train"


def _in_segment(held_out: int, place: int, length: int, margin: int) -> Side:
    if place // length % _EVERY != held_out:
        return "train"
    return "validation" if margin <= place % length < length - margin else "margin"


def _is_held_out(name: str) -> bool:
    return _hash(name) < _SHARE * 2**64


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def brought(config_type: str) -> str:
    """Return the `config_type` of a label that was made elsewhere: audits are drawn by this run's walkers only."""
    return FORMER_AUDIT if config_type == AUDIT else config_type
