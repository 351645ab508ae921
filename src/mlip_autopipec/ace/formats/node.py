"""A place in a YAML document that knows its path, so that every complaint names file, key and reason."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import yaml

from mlip_autopipec.ace.formats.lines import parse_lines
from mlip_autopipec.core.errors import ModelError

# The base loader leaves scalars as text: "1e-05" stays a number for float() and "No" an element.
_LOADER = getattr(yaml, "CBaseLoader", yaml.BaseLoader)

_DEEPEST = 50
_LARGEST = 1_000_000


class Node:
    """A value of a YAML document and where it stands.

    All methods raise `ModelError` with the file, the key and the reason.
    """

    def __init__(self, value: Any, source: str, path: str = "") -> None:
        self.value = value
        self.source = source
        self.path = path

    @classmethod
    def parse(cls, text: str, source: str) -> Node:
        """Parse YAML `text`; `source` is the file name for messages."""
        if _deepest_bracket(text) > _DEEPEST:
            # libyaml would overrun the stack.
            raise ModelError(f"{source}: not YAML: brackets are nested more than {_DEEPEST} deep", "is it a potential?")
        try:
            return cls(parse_lines(text, _parsed), source)
        except (yaml.YAMLError, RecursionError) as error:
            raise ModelError(f"{source}: not YAML: {error}", "is the file complete?") from error

    def error(self, reason: str, key: str = "") -> ModelError:
        """Return the error to raise about this place, or about `key` in it."""
        place = f"{self.path}.{key}" if self.path and key else self.path or key or "document"
        return ModelError(f"{self.source}: {place}: {reason}")

    def child(self, key: str, value: Any) -> Node:
        return Node(value, self.source, f"{self.path}.{key}" if self.path else key)

    def __contains__(self, key: str) -> bool:
        return key in self.mapping()

    def mapping(self) -> dict[Any, Any]:
        if not isinstance(self.value, dict):
            raise self.error(f"expected keys and values, found {_shown(self.value)}")
        return self.value

    def get(self, key: str) -> Node:
        """Return the value of a required key."""
        values = self.mapping()
        if key not in values:
            raise self.error("is missing", key)
        return self.child(key, values[key])

    def find(self, key: str) -> Node | None:
        """Return the value of an optional key."""
        values = self.mapping()
        return self.child(key, values[key]) if key in values else None

    def items(self) -> Iterator[Node]:
        """Iterate over a list; an empty value is an empty list."""
        if self.value in (None, ""):
            return
        if not isinstance(self.value, list):
            raise self.error(f"expected a list, found {_shown(self.value)}")
        for index, value in enumerate(self.value):
            yield Node(value, self.source, f"{self.path}[{index}]")

    def text(self) -> str:
        if not isinstance(self.value, str):
            raise self.error(f"expected text, found {_shown(self.value)}")
        return self.value

    def choice(self, allowed: tuple[str, ...]) -> str:
        """Return text that is one of `allowed`."""
        value = self.text()
        if value not in allowed:
            raise self.error(f"unknown value {value!r}, known are {', '.join(allowed)}")
        return value

    def real(self) -> float:
        """Return a finite number."""
        try:
            value = float(self.value)
        except (TypeError, ValueError):
            raise self.error(f"expected a number, found {_shown(self.value)}") from None
        if not math.isfinite(value):
            raise self.error(f"expected a finite number, found {self.value!r}")
        return value

    def integer(self, *, low: int = 0, high: int = _LARGEST) -> int:
        """Return a whole number from `low` to `high`."""
        try:
            value = int(self.value)
        except (TypeError, ValueError):
            raise self.error(f"expected a whole number, found {_shown(self.value)}") from None
        if value < low:
            raise self.error(f"expected at least {low}, found {value}")
        if value > high:
            raise self.error(f"expected at most {high}, found {_shown(self.value)}")
        return value

    def boolean(self) -> bool:
        return self.choice(("true", "false", "True", "False")).lower() == "true"

    def size(self) -> int:
        """Return the number of entries of a list."""
        return len(self.value) if isinstance(self.value, list) else len(list(self.items()))

    def reals(self) -> list[float]:
        """Return a list of finite numbers."""
        if isinstance(self.value, list):
            with contextlib.suppress(TypeError, ValueError):
                values = [float(item) for item in self.value]
                if all(map(math.isfinite, values)):
                    return values
        return [item.real() for item in self.items()]  # says which of them is wrong

    def integers(self, *, low: int = 0, high: int = _LARGEST) -> list[int]:
        """Return a list of whole numbers from `low` to `high`."""
        if isinstance(self.value, list):
            with contextlib.suppress(TypeError, ValueError):
                values = [int(item) for item in self.value]
                if all(low <= value <= high for value in values):
                    return values
        return [item.integer(low=low, high=high) for item in self.items()]


def _parsed(text: str) -> Any:
    return yaml.load(text, Loader=_LOADER)


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a UTF-8 file, `ModelError` if it is not readable as such."""
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        raise ModelError(f"{os.fspath(path)}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{os.fspath(path)}: cannot be read: {error}") from error


def _deepest_bracket(text: str) -> int:
    symbols = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8)
    steps = np.isin(symbols, (ord("["), ord("{"))).astype(np.int32) - np.isin(symbols, (ord("]"), ord("}")))
    return int(np.cumsum(steps).max(initial=0))


def _shown(value: Any) -> str:
    if value in (None, ""):
        return "nothing"
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
