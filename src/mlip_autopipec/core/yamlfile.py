"""YAML files written by people: duplicate keys are refused instead of silently dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mlip_autopipec.core.errors import ConfigError


class _StrictLoader(yaml.SafeLoader):
    """`SafeLoader` that refuses a key given twice."""


def _mapping_without_duplicates(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    loader.flatten_mapping(node)
    mapping: dict[Any, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if key in mapping:
            line = key_node.start_mark.line + 1
            raise yaml.constructor.ConstructorError(None, None, f"line {line}: the key {key!r} is given twice")
        mapping[key] = loader.construct_object(value_node, deep=True)
    return mapping


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises
    ------
    ConfigError
        The file is missing, no YAML, no mapping, or gives a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: file not found", "write one with `autopipe init`") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    try:
        data = yaml.load(text, Loader=_StrictLoader)  # a SafeLoader underneath
    except yaml.YAMLError as error:
        cause = " ".join(str(error).split())
        raise ConfigError(f"{path}: not valid YAML: {cause}", "check indentation and colons near that line") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: top level is not a mapping of sections", "compare with `autopipe config schema`")
    return data


def dump_mapping(data: dict[str, Any]) -> str:
    """Return `data` as YAML in the given key order."""
    return str(yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120))


def commented(data: dict[str, Any], comments: Mapping[str, str]) -> str:
    """Return `data` as YAML with a comment line above each key that has one.

    Parameters
    ----------
    comments
        By dotted path of keys, e.g. `otf.timestep`; paths that are not there are left out.
    """
    text = dump_mapping(data)
    lines = text.splitlines()
    places = dict(_lines_of_keys(yaml.compose(text, Loader=yaml.SafeLoader), ()))
    for path in sorted(set(comments) & set(places), key=lambda path: -places[path]):
        line = places[path]
        indent = " " * (len(lines[line]) - len(lines[line].lstrip()))
        lines.insert(line, f"{indent}# {' '.join(comments[path].split())}")
    return "\n".join(lines) + "\n"


def _lines_of_keys(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Yield dotted path and line of every key of nested mappings."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            yield ".".join(here), key.start_mark.line
            yield from _lines_of_keys(value, here)
