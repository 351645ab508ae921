"""Reads YAML of which most lines are list entries of one flow mapping each, as functions of a potential are.

PyYAML takes 20 us for every number. A line of plain words in the form that all writers use is taken apart by regular
expressions instead; whatever else a document holds is YAML's business, and what comes out is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_WORD = r"-?[\w.][\w.+-]*(?: [\w.+-]+)*"
_VALUE = rf"(?:\[(?:{_WORD}(?:, {_WORD})*)?\]|{_WORD})"
_ENTRY = re.compile(rf"^( *- )\{{(\w+: {_VALUE}(?:, \w+: {_VALUE})*)\}}$", re.MULTILINE | re.ASCII)
_PAIR = re.compile(r"(\w+): (?:\[([^\]]*)\]|([^,]*))", re.ASCII)
_MARK = "autopipe-line-"


def parse_lines(text: str, parse: Callable[[str], Any]) -> Any:
    """Return what ``parse(text)`` returns, a YAML parser that leaves scalars as text.

    Raises whatever `parse` raises.
    """
    if _MARK in text:
        return parse(text)
    entries: dict[str, dict[str, Any]] = {}

    def put_aside(match: re.Match[str]) -> str:
        mark = f"{_MARK}{len(entries)}"
        entries[mark] = {key: _list(items) if word is None else word for key, items, word in _pairs(match[2])}
        return match[1] + mark

    rest = parse(_ENTRY.sub(put_aside, text))
    found = dict.fromkeys(entries, 0)
    document = _put_back(rest, entries, found)
    # A line within quoted or literal text was no entry.
    return document if all(count == 1 for count in found.values()) else parse(text)


def _pairs(line: str) -> list[tuple[str, str, str | None]]:
    return [(m[1], m[2] or "", m[3]) for m in _PAIR.finditer(line)]


def _list(items: str) -> list[str]:
    return items.split(", ") if items else []


def _put_back(value: Any, entries: dict[str, dict[str, Any]], found: dict[str, int]) -> Any:
    if isinstance(value, str):
        if value in found:
            found[value] += 1
            return entries[value]
        return value
    if isinstance(value, list):
        return [_put_back(item, entries, found) for item in value]
    if isinstance(value, dict):
        return {key: _put_back(item, entries, found) for key, item in value.items()}
    return value
