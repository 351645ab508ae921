"""Versions of a potential: `potentials/v0001/ …` and `potentials/current.json`, which says which one walkers use.

A version is made in a work folder beside the versions and appears by one rename, whole. `current.json` is replaced
afterwards; a crash in between is repaired by `recover`. Nothing that was published is ever written again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import AutopipeError, DataError, ModelError, NotFoundError
from mlip_autopipec.core.files import fsync_directory, read_json, write_json

FILES = ("potential.yaml", "potential.yace", "potential.asi", "metrics.json", "train_config.yaml")
_MANIFEST = "manifest.json"
_CURRENT = "current.json"
_VERSION = re.compile(r"v(\d{4,})")
_WORK_PREFIX = ".work-"
_STRAY_PREFIX = ".stray-"
_REPAIRED = "the trainer repairs it within seconds, or at the next `autopipe otf start`"
_OTHER_VERSION = "name another version in it, or remove the file: the trainer then points to the newest"


@dataclass(frozen=True)
class Current:
    """The version that walkers use.

    Attributes
    ----------
    version : e.g. `v0002`
    sha256 : of the version's files, as `folder_hash` computes it
    pinned : True if the user wants this one even when newer ones come
    newest : the newest version that existed when this was written; if it does not say so (people write it by hand),
        the newest that exists now
    """

    version: str
    sha256: str
    pinned: bool
    newest: str


class Registry:
    """The potentials folder of one run. One writer: whoever holds the trainer's lock.

    Parameters
    ----------
    folder
        `potentials/`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.current_file = folder / _CURRENT

    def path(self, version: str) -> Path:
        """Return the folder of `version`."""
        return self.folder / version

    def versions(self) -> list[str]:
        """Return all published versions, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [p.name for p in self.folder.iterdir() if _VERSION.fullmatch(p.name) and (p / _MANIFEST).is_file()]
        return sorted(found, key=_number)

    def current(self) -> Current | None:
        """Return the version that walkers use; None before the first.

        Raises
        ------
        ModelError
            `current.json` is damaged or names a version that does not exist.
        """
        path = self.current_file
        try:
            data = read_json(path)
        except FileNotFoundError:
            return None
        except DataError as error:
            raise ModelError(f"{path}: damaged: {error.message.removeprefix(f'{path}: ')}", _REPAIRED) from error
        try:
            version, sha256, pinned = data["version"], data["sha256"], data["pinned"]
            newest = data.get("newest") or max(self.versions(), key=_number, default=version)
            known = all(_VERSION.fullmatch(name) for name in (version, newest))
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{path}: damaged: has no version, sha256 and pinned", _REPAIRED) from error
        if not known or not isinstance(pinned, bool):
            raise ModelError(f"{path}: damaged: version {version!r}, newest {newest!r}, pinned {pinned!r}", _REPAIRED)
        if not (self.path(version) / _MANIFEST).is_file():
            raise ModelError(f"{path}: names {version}, which does not exist", _OTHER_VERSION if pinned else _REPAIRED)
        return Current(version, sha256, pinned, newest)

    def current_stamp(self) -> tuple[int, int, int] | None:
        """Return a token that differs whenever `current.json` was replaced; costs one `stat`."""
        try:
            status = self.current_file.stat()
        except FileNotFoundError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def manifest(self, version: str) -> dict[str, Any]:
        """Return what `publish` was given, with `version` and `files` (sha256 of each).

        Raises
        ------
        NotFoundError
            There is no such version.
        DataError
            The file is damaged, or no manifest.
        """
        path = self.path(version) / _MANIFEST
        try:
            content = read_json(path)
        except FileNotFoundError:
            raise NotFoundError(f"no version {version}", f"there are: {', '.join(self.versions()) or 'none'}") from None
        if not _is_manifest(content):
            raise DataError(f"{path}: no manifest: it must have a list task_ids, and files and editions by name")
        return dict(content)

    def labels(self, version: str) -> list[str]:
        """Return the task ids whose labels `version` contains; none if it is not there (any more), or damaged."""
        try:
            return list(self.manifest(version)["task_ids"])
        except (NotFoundError, DataError):
            return []

    def candidate(self, version: str) -> str:
        """Return why the gate let `version` be a candidate only; empty for one that may be current.

        A version with a damaged manifest is none: whoever uses it will say so.
        """
        try:
            reasons = self.manifest(version).get("candidate", [])
        except (NotFoundError, DataError):
            return ""
        return "; ".join(map(str, reasons)) if isinstance(reasons, list) else str(reasons)

    def damage(self, version: str) -> str | None:
        """Return in what `version` is not as it was published, None if in nothing. Reads the potential's files.

        What a person writes into the others, a note in `metrics.json` say, makes no other potential of it.
        """
        try:
            files = self.manifest(version).get("files", {})
        except (AutopipeError, AttributeError) as error:
            return f"{version}: {_MANIFEST}: {error}"
        for name, sha256 in files.items():
            path = self.path(version) / name
            if not path.is_file():
                return f"{version}: {name} is missing"
            if name.startswith("potential.") and _file_hash(path) != sha256:
                return f"{version}: {name} is not what was published"
        return None

    def set_aside(self, version: str) -> str:
        """Make `version` no version any more, but keep its folder; return the folder's name now."""
        stray = self.path(_STRAY_PREFIX + version)
        self.path(version).rename(stray)
        fsync_directory(self.folder)
        return stray.name

    def next_version(self) -> str:
        """Return the name that the next version will get."""
        # Strays count too: a number that was ever seen is not used again.
        names = [p.name.removeprefix(_STRAY_PREFIX) for p in self.folder.iterdir()] if self.folder.is_dir() else []
        numbers = [_number(name) for name in names if _VERSION.fullmatch(name)]
        return f"v{max(numbers, default=0) + 1:04d}"

    def new_work_folder(self) -> Path:
        """Make an empty folder on the same filesystem, invisible as a version."""
        self.folder.mkdir(parents=True, exist_ok=True)
        work = self.folder / f"{_WORK_PREFIX}{secrets.token_hex(4)}"
        work.mkdir()
        return work

    @contextlib.contextmanager
    def work_folder(self, work: Path | None = None) -> Iterator[Path]:
        """Give a new work folder (or `work`, made before), and remove it if what is done with it fails.

        A file of it that cannot be removed now (NFS keeps open ones under other names) hides no error, and goes with
        the next `recover`.
        """
        work = work or self.new_work_folder()
        try:
            yield work
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise

    def publish(self, work: Path, manifest: Mapping[str, Any]) -> str:
        """Make the complete folder `work` the next version, and `current` unless another one is pinned.

        A candidate (the manifest's `candidate` says why) does not become current.

        Parameters
        ----------
        work
            From `new_work_folder`, with all of `FILES`; it is gone afterwards.
        manifest
            `task_ids`, `new_task_ids`, `parent`, hashes, …; JSON-ready.

        Raises
        ------
        ModelError
            A file is missing.
        """
        missing = [name for name in FILES if not (work / name).is_file()]
        if missing:
            raise ModelError(f"{work}: {missing[0]} is missing, so this is not published")
        version = self.next_version()
        files = {name: _file_hash(work / name) for name in FILES}
        write_json(work / _MANIFEST, {"version": version, **manifest, "files": files})
        for file in work.iterdir():
            _fsync_file(file)
        fsync_directory(work)
        target = self.path(version)
        # rename(2) would replace an empty folder; numbers are never reused, so nothing may be there.
        if target.exists():
            raise ModelError(f"{target} appeared while {version} was being published", "is there a second trainer?")
        os.rename(work, target)
        fsync_directory(self.folder)
        self._advance(version)
        return version

    def set_current(self, version: str, *, pinned: bool = False) -> None:
        """Point `current.json` to an existing version (rollback, promotion).

        Raises
        ------
        NotFoundError
            There is no such version.
        """
        self.manifest(version)
        newest = self.versions()[-1]
        content = {"version": version, "sha256": folder_hash(self.path(version)), "pinned": pinned, "newest": newest}
        write_json(self.current_file, content)

    def recover(self) -> list[str]:
        """Repair what a killed writer left, and return what was done. Called at start, before anything is published."""
        done: list[str] = []
        if not self.folder.is_dir():
            return done
        for path in sorted(self.folder.iterdir()):
            if path.name.startswith(_WORK_PREFIX) and path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
                done.append(f"{'could not yet remove' if path.exists() else 'removed'} unfinished {path.name}")
            elif path.name.startswith(f".{_CURRENT}."):
                path.unlink()
                done.append(f"removed unfinished {path.name}")
            elif _VERSION.fullmatch(path.name) and not (path / _MANIFEST).is_file():
                done.append(f"{path.name} has no manifest, so it is no version: renamed to {self.set_aside(path.name)}")
        versions = self.versions()
        if versions and self._newest_seen() != versions[-1] and self._advance(versions[-1]):
            done.append(f"finished publishing {versions[-1]}")
        return done

    def is_pinned(self) -> bool:
        """True if `current.json` says so, even where the rest of it makes no sense: what a user wants is not undone."""
        with contextlib.suppress(DataError, FileNotFoundError):
            content = read_json(self.current_file)
            return isinstance(content, dict) and content.get("pinned") is True and "version" in content
        return False

    def _advance(self, newest: str) -> bool:
        """Tell of the newest version; False if a pin to something impossible stands in the way.

        Where it is a candidate, `current.json` stays, but says which is the newest: nobody waits for its labels.
        """
        pinned = self.is_pinned()
        if not pinned and not self.candidate(newest):
            self.set_current(newest)
            return True
        try:
            before = self.current()
        except ModelError:
            return False
        if before is not None:
            self.set_current(before.version, pinned=pinned)
        return True

    def _newest_seen(self) -> str | None:
        try:
            current = self.current()
        except ModelError:
            return None
        return current.newest if current else None


def folder_hash(folder: Path) -> str:
    """Return one sha256 over the names and contents of a version's files."""
    total = hashlib.sha256()
    for name in FILES:
        total.update(f"{name} {_file_hash(folder / name)}\n".encode())
    return total.hexdigest()


def _file_hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _fsync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_manifest(content: Any) -> bool:
    if not isinstance(content, dict) or not isinstance(task_ids := content.get("task_ids"), list):
        return False
    tables = [content.get(key, {}) for key in ("files", "editions")]
    return all(isinstance(i, str) for i in task_ids) and all(isinstance(table, dict) for table in tables)


def _number(version: str) -> int:
    return int(version[1:])
