"""A folder of pseudopotentials with a manifest: which file for an element, and which cutoffs it needs.

A manifest is a JSON file in the folder, in the form in which the published libraries come: element -> `filename`,
`cutoff_wfc` and `cutoff_rho` in Ry, `md5` or `sha256`, and optionally `functional` (else the file's header says it).
An element may have a list of such entries, one for each functional. Debian's folder has no manifest: ours for it is
`debian.json` beside this module.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

from mlip_autopipec.core.errors import ConfigError, DataError
from mlip_autopipec.core.files import read_json
from mlip_autopipec.engines.espresso.pseudopotentials import functional_family, read_header

Functional = Literal["PBE", "PBEsol", "LDA"]
FUNCTIONALS: Final[tuple[Functional, ...]] = ("PBE", "PBEsol", "LDA")
_ALIASES: Final = {
    "file": ("filename", "file"),
    "ecutwfc_ry": ("cutoff_wfc", "ecutwfc"),
    "ecutrho_ry": ("cutoff_rho", "ecutrho"),
}


@dataclass(frozen=True)
class Entry:
    """One file of a library.

    Attributes
    ----------
    functional : `PBE`, `PBEsol` or `LDA`; empty if neither manifest nor file say it
    ecutwfc_ry, ecutrho_ry : cutoffs that the file needs, Ry
    digests : hashes that the file must have, by algorithm; may be empty
    """

    element: str
    file: str
    functional: str
    ecutwfc_ry: float
    ecutrho_ry: float
    digests: Mapping[str, str]


@dataclass(frozen=True)
class Library:
    """The files of a folder.

    Attributes
    ----------
    name : of the manifest, for people
    """

    name: str
    folder: Path
    entries: tuple[Entry, ...]

    def choose(self, elements: Collection[str], functional: str | None = None) -> dict[str, Entry]:
        """Return a file for each element, all of one functional: the wanted one, or the first that has them all.

        Raises
        ------
        ConfigError
            An element has no file of this functional, or the elements have none in common.
        """
        lacking: dict[str, list[str]] = {}
        for candidate in [functional] if functional else FUNCTIONALS:
            found = {e.element: e for e in reversed(self.entries) if e.functional == candidate}
            lacking[candidate] = sorted(set(elements) - set(found))
            if not lacking[candidate]:
                return {element: self._checked(found[element]) for element in sorted(elements)}
        gaps = "; ".join(f"{name}: none for {', '.join(missing)}" for name, missing in lacking.items())
        raise ConfigError(
            f"labeller.elements: {self.name} has no files of one functional for {', '.join(sorted(elements))} ({gaps})",
            "put a published library with its manifest into node.espresso.pseudo_dir, or use engine gpaw",
        )

    def of_file(self, file: str) -> Entry | None:
        """Return the entry of a file name, None if the manifest does not know it."""
        return next((entry for entry in self.entries if entry.file == file), None)

    def _checked(self, entry: Entry) -> Entry:
        path = self.folder / entry.file
        if not path.is_file():
            raise ConfigError(f"{self.name}: {path} does not exist", "complete the library, or correct its manifest")
        for algorithm, wanted in entry.digests.items():
            if hashlib.new(algorithm, path.read_bytes(), usedforsecurity=False).hexdigest() != wanted:
                raise ConfigError(
                    f"{self.name}: {path} is not the file of the manifest ({algorithm} differs)",
                    "get the library again: labels of two nodes would differ without a word",
                )
        return entry


def load_library(folder: Path) -> Library | None:
    """Return the library in `folder`: its manifest's, ours if it is Debian's folder, None if nobody knows its files.

    Raises
    ------
    ConfigError
        There are several manifests, or one that is none.
    """
    manifests = sorted(folder.glob("*.json"))
    if len(manifests) > 1:
        raise ConfigError(
            f"node.espresso.pseudo_dir: {folder} has several manifests: {', '.join(p.name for p in manifests)}",
            "leave the one that belongs to the files",
        )
    if manifests:
        path = manifests[0]
        try:
            content = read_json(path)
        except DataError as error:
            raise ConfigError(error.message, error.hint) from error
        return Library(str(path), folder, _entries(content, folder, str(path)))
    with resources.as_file(resources.files(__package__) / "debian.json") as path:
        entries = _entries(read_json(path), folder, "our manifest for Debian's pseudopotentials")
    if not any((folder / entry.file).is_file() for entry in entries):
        return None
    return Library("Debian's pseudopotentials", folder, entries)


def _entries(content: Any, folder: Path, name: str) -> tuple[Entry, ...]:
    if not isinstance(content, dict):
        raise ConfigError(f"{name}: not a mapping of elements", "compare with a published manifest")
    found = []
    for element, value in content.items():
        for item in value if isinstance(value, list) else [value]:
            found.append(_entry(element, item, folder, name))
    return tuple(found)


def _entry(element: str, item: Any, folder: Path, name: str) -> Entry:
    try:
        file, wfc, rho = [next(item[alias] for alias in names if alias in item) for names in _ALIASES.values()]
        return Entry(
            element=element,
            file=str(file),
            functional=str(item.get("functional") or _functional_of_file(folder / str(file))),
            ecutwfc_ry=float(wfc),
            ecutrho_ry=float(rho),
            digests={a: str(item[a]).lower() for a in ("md5", "sha256") if item.get(a)},
        )
    except (StopIteration, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{name}: {element}: needs filename, cutoff_wfc and cutoff_rho", "compare with a published manifest"
        ) from error


def _functional_of_file(path: Path) -> str:
    return functional_family(read_header(path).functional) if path.is_file() else ""


def highest_cutoffs(entries: Sequence[Entry]) -> tuple[Entry, Entry]:
    """Return the entries with the highest wave-function and density cutoffs."""
    return max(entries, key=lambda e: e.ecutwfc_ry), max(entries, key=lambda e: e.ecutrho_ry)
