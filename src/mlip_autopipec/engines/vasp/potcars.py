"""Which POTCAR belongs to an element, and whether this node has it."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from ase.calculators.vasp.setups import get_default_setups

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.engines.vasp.settings import VaspNode, VaspSettings

ENVIRONMENT = "VASP_PP_PATH"


def potcar_name(symbol: str, settings: VaspSettings) -> str:
    """Return the name of an element's folder: the one in the settings, or what VASP's manual recommends."""
    recommended: dict[str, str] = get_default_setups()["recommended"]
    return settings.potcars.get(symbol, symbol + recommended.get(symbol, ""))


def library_folder(settings: VaspSettings, node: VaspNode) -> Path:
    """Return the folder of one functional's POTCARs on this node, absolute.

    Raises
    ------
    ConfigError
        Neither node nor environment name a folder, or it does not exist.
    """
    root = node.potcar_dir or (Path(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else None)
    if root is None:
        raise ConfigError(
            "node.vasp.potcar_dir: missing, and the environment has no VASP_PP_PATH",
            "name the folder that holds potpaw_PBE; POTCARs come with a licence of VASP",
        )
    name = "potpaw_LDA" if settings.functional == "LDA" else "potpaw_PBE"
    if settings.potcar_version:
        name = f"{name}.{settings.potcar_version}"
    elif settings.functional == "LDA" and not (root / name).is_dir():
        name = "potpaw"  # its old name
    if not (root / name).is_dir():
        found = ", ".join(sorted(path.name for path in root.glob("potpaw*"))) if root.is_dir() else "no such folder"
        raise ConfigError(
            f"node.vasp.potcar_dir: {root} has no {name} ({found or 'no potpaw there'})",
            "correct it, or set labeller.potcar_version",
        )
    return (root / name).absolute()


def require_potcars(symbols: Collection[str], settings: VaspSettings, folder: Path) -> None:
    """Raise `ConfigError` if an element has no POTCAR in `folder`."""
    for symbol in sorted(set(symbols)):
        name = potcar_name(symbol, settings)
        if not any((folder / name / f"POTCAR{end}").is_file() for end in ("", ".Z")):
            others = ", ".join(sorted(path.name for path in folder.glob(f"{symbol}*") if _is_of(path.name, symbol)))
            raise ConfigError(
                f"labeller.potcars: {symbol}: no POTCAR in {folder / name}",
                f"there are {others}: write {{{symbol}: {others.split(', ')[0]}}}"
                if others
                else "complete the folder of POTCARs, or use engine gpaw",
            )


def _is_of(name: str, symbol: str) -> bool:
    return name.partition("_")[0].partition(".")[0] == symbol


def titles(potcar: Path) -> list[str]:
    """Return the title of every potential in a POTCAR file, as `PAW_PBE Al 04Jan2001`."""
    with potcar.open(encoding="utf-8", errors="replace") as lines:
        return [line.partition("=")[2].strip() for line in lines if line.lstrip().startswith("TITEL")]
