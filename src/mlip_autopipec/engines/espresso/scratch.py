"""pw.x's scratch folder, and the charge density that outlives it so that any node can continue a stopped SCF."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from mlip_autopipec.core.errors import ConfigError, DataError
from mlip_autopipec.core.files import fsync_directory, read_json, write_json

PREFIX: Final = "pwscf"
# pw.x keeps paths in strings of 256 characters.
_LONGEST_PATH = 200
_FULL_BYTES = 4096
_LOCK = "owner.lock"
_BESIDE = "scratch"
_TRIES, _DYING_S = 5, 0.1
_KEPT = "density"
_REMEMBERED = "converged"
_KEY = "key.json"
# What `startingpot = 'file'` reads: the density, which a pw.x with HDF5 writes as such; paw.txt only exists with PAW.
_DENSITY: Final = ("charge-density.dat", "charge-density.hdf5")
_WANTED: Final = (*_DENSITY, "paw.txt")


class Scratch:
    """One scratch folder while it is in use.

    Attributes
    ----------
    path : the folder
    name : how pw.x shall name it
    """

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name

    @property
    def save(self) -> Path:
        """Folder where pw.x writes its charge density when it ends by itself; a killed one leaves none."""
        return self.path / f"{PREFIX}.save"

    @property
    def has_density(self) -> bool:
        return any((self.save / name).is_file() for name in _DENSITY)

    def put_density(self, files: Mapping[str, bytes]) -> None:
        """Write a density where pw.x looks for it."""
        self.save.mkdir(exist_ok=True)
        for name, content in files.items():
            (self.save / name).write_bytes(content)

    def read_density(self) -> dict[str, bytes]:
        """Return the files of the density; empty if there is none."""
        if not self.has_density:
            return {}
        return {name: (self.save / name).read_bytes() for name in _WANTED if (self.save / name).exists()}

    def is_full(self) -> bool:
        """True if nothing can be written any more."""
        return shutil.disk_usage(self.path).free < _FULL_BYTES

    def remember(self) -> None:
        """Keep a copy of the density of a run that converged, if it left one and there is room."""
        if self.has_density:
            shutil.rmtree(self.path / _REMEMBERED, ignore_errors=True)
            # A label that has just converged must not be lost for want of a copy.
            with contextlib.suppress(OSError):
                _copy_density(self.save, self.path / _REMEMBERED)

    def recall(self) -> bool:
        """Put that density back, with everything else of pw.x removed; False if there is none."""
        self.clear()
        if not (self.path / _REMEMBERED).is_dir():
            return False
        _copy_density(self.path / _REMEMBERED, self.save)
        return self.has_density

    def clear(self) -> None:
        """Remove everything of pw.x, so that the next run starts from free atoms."""
        for path in self.path.glob(f"{PREFIX}*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def scratch_folder(folder: Path, base: Path | None) -> Iterator[Scratch]:
    """Give a scratch folder, below `base` or in `folder` itself, and remove it however the run ends.

    Folders below `base`, and of earlier attempts at this label, whose owner was killed are removed as well.

    Raises
    ------
    ConfigError
        The path is too long for pw.x.
    """
    if base is None:
        # Whoever has earlier attempts at this label lost it, on whatever host.
        for other in folder.parent.glob(f"*/{_BESIDE}"):
            _remove_if_abandoned(other)
        path, name = folder / _BESIDE, f"./{_BESIDE}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
    else:
        base.mkdir(parents=True, exist_ok=True)
        remove_abandoned(base)
        path = Path(tempfile.mkdtemp(prefix="pw-", dir=base.resolve()))
        name = str(path)
    try:
        if len(name) > _LONGEST_PATH:
            raise ConfigError(f"node.espresso.scratch: {name} is too long for pw.x", "give a shorter path")
        # Renamed once it is locked, so that no sweep takes a folder that is just being made.
        with (path / f"{_LOCK}.new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write(socket.gethostname())
            lock.flush()
            os.rename(lock.name, path / _LOCK)
            yield Scratch(path, name)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_abandoned(base: Path | None, folders: Iterable[Path] = ()) -> None:
    """Remove the scratch of dead processes of this host: below `base`, and in `folders` of attempts."""
    for path in itertools.chain(base.glob("pw-*") if base else (), (folder / _BESIDE for folder in folders)):
        # On NFS without lock manager every host gets every lock: those of others say nothing here.
        _remove_if_abandoned(path, host=socket.gethostname())


def _remove_if_abandoned(path: Path, host: str | None = None) -> None:
    """Remove a scratch folder whose lock no living process holds: the kernel frees the lock of a dead one.

    Parameters
    ----------
    host
        Only if its owner was of this host; default: of any.
    """
    try:
        with (path / _LOCK).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if host is not None and lock.read() not in ("", host):
                return
    except OSError:
        return
    for _ in range(_TRIES):
        shutil.rmtree(path, ignore_errors=True)
        if not path.exists():
            return
        # A pw.x that is being killed wrote one more file.
        time.sleep(_DYING_S)


def _copy_density(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for name in _WANTED:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def keep_density(scratch: Scratch, folder: Path, key: str) -> bool:
    """Copy the density into the attempt's `folder`, marked with the structure and settings that it belongs to.

    Returns
    -------
    False if there is none, or no room for it: the SCF is begun anew then, nothing is lost but time.
    """
    if not scratch.has_density:
        return False
    target, temporary = folder / _KEPT, folder / f".{_KEPT}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        _copy_density(scratch.save, temporary)
        write_json(temporary / _KEY, key)
        shutil.rmtree(target, ignore_errors=True)
        os.replace(temporary, target)
        fsync_directory(folder)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        return False
    return True


def lay_density(scratch: Scratch, folder: Path, key: str) -> bool:
    """Put the newest density that an attempt with the same `key` kept where pw.x looks for it, if there is one.

    A torn file is no harm: pw.x says so, and the ladder starts anew.
    """
    source = max(_kept(folder, key), key=_age, default=None)
    if source is not None:
        with contextlib.suppress(OSError):
            _copy_density(source, scratch.save)
    return scratch.has_density


def forget_densities(folder: Path, key: str) -> None:
    """Remove what the attempts at one label kept, and what a killed one was about to keep: nobody needs it any more."""
    for path in [*_kept(folder, key), *folder.parent.glob(f"*/.{_KEPT}.tmp")]:
        shutil.rmtree(path, ignore_errors=True)


def _kept(folder: Path, key: str) -> list[Path]:
    return [path.parent for path in folder.parent.glob(f"*/{_KEPT}/{_KEY}") if _belongs(path, key)]


def _belongs(path: Path, key: str) -> bool:
    try:
        return bool(read_json(path) == key)
    except (DataError, OSError):  # torn by a kill, or gone in this moment
        return False


def _age(path: Path) -> float:
    try:
        return (path / _KEY).stat().st_mtime
    except OSError:
        return 0.0
