"""`gate.json` in a version's folder: what the gate asked before it was published, and the answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import read_json
from mlip_autopipec.store.registry import Registry


def report_file(folder: Path) -> Path:
    """Return where the report of a version, or of a work folder, lies."""
    return folder / "gate.json"


def read_report(registry: Registry, version: str) -> dict[str, Any]:
    """Return the report of a version; empty if it has none, as one that the user brought.

    Raises
    ------
    DataError
        It is damaged.
    """
    file = report_file(registry.path(version))
    try:
        content = read_json(file)
    except FileNotFoundError:
        return {}
    if not isinstance(content, dict) or not isinstance(content.get("checks"), list):
        raise DataError(f"{file}: no gate report: it must have a list of checks")
    return dict(content)


def read_checks(registry: Registry, version: str) -> dict[str, bool | None]:
    """Return name of check -> whether the version passed; nothing if there is no sound report."""
    try:
        checks = read_report(registry, version).get("checks", [])
    except DataError:
        return {}
    return {str(c["name"]): c.get("passed") for c in checks if isinstance(c, dict) and "name" in c}
