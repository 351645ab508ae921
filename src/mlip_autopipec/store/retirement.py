"""Which versions of a potential nobody needs any more, and their end: what is told of them stays."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import fsync_directory, read_json, write_json
from mlip_autopipec.store.production import productions
from mlip_autopipec.store.registry import Registry
from mlip_autopipec.store.rundir import RunDirectory
from mlip_autopipec.store.walkerstate import read_state

_RETIRED: Final = "retired"


def dispensable(run: RunDirectory, registry: Registry, keep: int) -> list[str]:
    """Return the versions that may go, oldest first.

    Parameters
    ----------
    keep
        So many of the newest stay in any case.

    Raises
    ------
    AutopipeError
        A file that may name a version is damaged: then nothing may go.
    """
    older = registry.versions()[:-keep]
    needed = set(_needed(run, registry)) if older else set()
    return [version for version in older if version not in needed]


def retire(registry: Registry, version: str) -> None:
    """Remove a version; `potentials/retired/<version>.json` keeps its manifest and metrics.

    It disappears by one rename; what a kill leaves of its files goes with the next `Registry.recover`.
    """
    told = {"manifest": registry.manifest(version), "metrics": _metrics(registry, version)}
    (registry.folder / _RETIRED).mkdir(exist_ok=True)
    write_json(registry.folder / _RETIRED / f"{version}.json", told)
    work = registry.new_work_folder()
    os.rename(registry.path(version), work / version)
    fsync_directory(registry.folder)
    shutil.rmtree(work, ignore_errors=True)


def is_retired(registry: Registry, version: str) -> bool:
    """True if there was such a version, and it was removed to make room."""
    return (registry.folder / _RETIRED / f"{version}.json").exists()


def _needed(run: RunDirectory, registry: Registry) -> Iterator[str]:
    """Yield every version that somebody uses, or may go on from."""
    current = registry.current()
    # A refit goes on from the active sets of its parent: the newest version, or the one that was gone back to.
    heads = [*registry.versions()[-1:], *([current.version] if current else [])]
    for head in heads:
        yield head
        yield from filter(None, [registry.manifest(head).get("parent")])
    for folder in sorted(run.walkers.iterdir()) if run.walkers.is_dir() else []:
        state = read_state(folder) if folder.is_dir() else None
        # The open halt, and those that wait without their walker.
        halts = [folder / "halt.json", *folder.glob("aside/*.json")]
        yield from filter(None, [state and state.version, *map(_halted_by, halts)])
    for _, production in productions(run):
        yield production.version


def _halted_by(halt: Path) -> str | None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return str(read_json(halt)["version"])
    return None


def _metrics(registry: Registry, version: str) -> Any:
    try:
        return read_json(registry.path(version) / "metrics.json")
    except (FileNotFoundError, DataError):
        return None
