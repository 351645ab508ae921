"""Pseudopotential files: are they there, are they of the right element, do they belong together."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlip_autopipec.core.errors import ConfigError

# The header of a UPF file; some files carry a long description before it.
_HEADER = re.compile(r"<PP_HEADER(.*?)(?:/>|</PP_HEADER>)", re.DOTALL)
_ATTRIBUTE = r"\b{}\s*=\s*[\"']\s*([^\"']*?)\s*[\"']"
# Spellings of one functional in the headers of UPF files.
_FUNCTIONALS: Final = {
    "LDA": "LDA",
    "PZ": "LDA",
    "SLA PZ NOGX NOGC": "LDA",
    "PBE": "PBE",
    "SLA PW PBX PBC": "PBE",
    "SLA PW PBE PBE": "PBE",
    "PBESOL": "PBEsol",
    "SLA PW PSX PSC": "PBEsol",
}


@dataclass(frozen=True)
class Pseudopotential:
    """What the header of a UPF file says; empty strings for what it does not say.

    Attributes
    ----------
    functional : e.g. `PBE`, `SLA PW PBX PBC`
    is_soft : ultrasoft or PAW, which need a higher density cutoff
    sha256 : first 16 hexadecimal digits of the file's hash
    """

    file: str
    element: str
    functional: str
    is_soft: bool
    sha256: str


def load_pseudopotentials(names: Mapping[str, str], folder: Path) -> dict[str, Pseudopotential]:
    """Read the headers of the named files.

    Parameters
    ----------
    names
        File name for each element.

    Raises
    ------
    ConfigError
        A file is missing, of another element, or of another functional than the rest. pw.x would not notice a wrong
        element.
    """
    loaded = {}
    for element, name in names.items():
        pseudopotential = read_header(_existing(element, name, folder))
        if pseudopotential.element not in ("", element):
            raise ConfigError(
                f"labeller.pseudopotentials.{element}: {name} is of {pseudopotential.element}",
                _choices(element, folder),
            )
        loaded[element] = pseudopotential
    # Unknown spellings are left to pw.x, which compares them itself.
    known = {family: p for p in loaded.values() if (family := functional_family(p.functional))}
    if len(known) > 1:
        one, other = list(known.values())[:2]
        raise ConfigError(
            f"labeller.pseudopotentials: {one.file} ({one.functional}) and {other.file} ({other.functional}) are of "
            "different functionals",
            "take all files of one functional",
        )
    return loaded


def functional_family(spelling: str) -> str:
    """Return `PBE`, `PBEsol` or `LDA` for a header's spelling of it; empty for one that we do not know."""
    return _FUNCTIONALS.get(spelling.upper(), "")


def read_header(path: Path) -> Pseudopotential:
    """Read the header of a UPF file of version 1 or 2; other formats give empty fields."""
    data = path.read_bytes()
    match = _HEADER.search(data.decode("utf-8", errors="replace"))
    text = match[1] if match else ""
    if re.search(r"element\s*=", text):
        element, functional = (_attribute(text, key) for key in ("element", "functional"))
        kind = _attribute(text, "pseudo_type").upper()
    else:
        element, functional, kind = _first_version(text)
    return Pseudopotential(
        file=path.name,
        element=element.capitalize(),
        functional=" ".join(functional.split()),
        is_soft=kind in ("US", "USPP", "PAW"),
        sha256=hashlib.sha256(data).hexdigest()[:16],
    )


def _attribute(text: str, key: str) -> str:
    match = re.search(_ATTRIBUTE.format(key), text)
    return match[1] if match else ""


def _first_version(text: str) -> tuple[str, str, str]:
    """Return element, functional and kind from a header of lines `value(s)  description`."""
    found = {"Element": "", "Exchange-Correlation functional": "", "pseudopotential": ""}
    for line in text.splitlines():
        for key in found:
            if line.rstrip().lower().endswith(key.lower()):
                found[key] = line[: len(line.rstrip()) - len(key)].strip()
    kind = found["pseudopotential"].split()
    functional = " ".join(found["Exchange-Correlation functional"].split()[:4])
    return found["Element"], functional, kind[0] if kind else ""


def _existing(element: str, name: str, folder: Path) -> Path:
    if not folder.is_dir():
        raise ConfigError(
            f"node.espresso.pseudo_dir: {folder} is no folder",
            "correct it, or install pseudopotentials (Debian: quantum-espresso-data)",
        )
    path = folder / name
    if not path.is_file():
        raise ConfigError(f"labeller.pseudopotentials.{element}: {path} does not exist", _choices(element, folder))
    return path


def _choices(element: str, folder: Path) -> str:
    """Return a hint that lists the files of an element."""
    pattern = re.compile(rf"{element}[._-]", re.IGNORECASE)
    names = sorted(p.name for p in folder.iterdir() if pattern.match(p.name))
    if not names:
        return f"{folder} has no file for {element}: get one, e.g. from a published library, and put it there"
    return f"{folder} has {', '.join(names[:6])}"
