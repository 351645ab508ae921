"""Numbers and lists as the text of potential files: 17 significant digits, whole numbers without a point."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

import numpy as np

from mlip_autopipec.ace.records import FloatArray

# What YAML reads back as the same text without quotes.
_PLAIN = re.compile(r"[\w/(][\w\-+./()@ ,:']*[\w/().,']|[\w/]")


def real(value: float) -> str:
    """Return the shortest form with 17 significant digits, which reads back as the same double."""
    return f"{float(value):.17g}"


def reals(values: Iterable[float]) -> str:
    return "[" + ", ".join([f"{value:.17g}" for value in values]) + "]"


def integers(values: Iterable[int]) -> str:
    return "[" + ", ".join([str(int(value)) for value in values]) + "]"


def words(values: Sequence[str]) -> str:
    return "[" + ", ".join(values) + "]"


def array(values: FloatArray) -> str:
    """Return a nested flow list of an array of any dimension."""
    if values.ndim == 1:
        return reals(values.tolist())
    return "[" + ", ".join([array(row) for row in np.asarray(values)]) + "]"


def string(text: str) -> str:
    """Return YAML text, quoted where YAML needs it."""
    if text != "null" and _PLAIN.fullmatch(text) and ": " not in text and not text.endswith(":"):
        return text
    return json.dumps(text, ensure_ascii=False)
