"""The door to GPAW: imported late, since most nodes do not have it, and refused with what to do."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.engines.gpaw.settings import GpawSettings

_INSTALL = "in a checkout: GPAW_CONFIG=$PWD/scripts/gpaw_siteconfig.py pip install '.[gpaw]'; it needs gcc"
_OLDEST = 26


def open_gpaw(setup_dir: Path | None) -> Any:
    """Return the module `gpaw`, which will look for PAW datasets in `setup_dir` first.

    Raises
    ------
    ConfigError
        GPAW is not installed, was not compiled, or is too old; or there is no such folder.
    """
    try:
        import gpaw
        import gpaw.cgpaw
        import gpaw.dft
    except ImportError as error:
        raise ConfigError(f"labeller.engine: 'gpaw': GPAW cannot be loaded here: {error}", _INSTALL) from error
    if int(gpaw.__version__.split(".")[0]) < _OLDEST:
        raise ConfigError(f"labeller.engine: 'gpaw': GPAW {gpaw.__version__} is older than {_OLDEST}", _INSTALL)
    if setup_dir is not None:
        if not setup_dir.is_dir():
            raise ConfigError(f"node.gpaw.setup_dir: {setup_dir}: no such folder", "correct it, or leave it out")
        if str(setup_dir) not in map(str, gpaw.setup_paths):
            gpaw.setup_paths.insert(0, str(setup_dir))
    return gpaw


def require_datasets(gpaw: Any, symbols: Collection[str], settings: GpawSettings) -> None:
    """Raise `ConfigError` if there is no PAW dataset for one of these elements."""
    missing = [symbol for symbol in sorted(set(symbols)) if not _has_dataset(gpaw, dataset_name(symbol, settings))]
    if missing:
        names = ", ".join(dataset_name(symbol, settings) for symbol in missing)
        raise ConfigError(
            f"labeller.engine: 'gpaw' has no PAW dataset for {', '.join(missing)} ({names})",
            "install gpaw-data, correct labeller.setups and labeller.functional, or name a folder that has them in "
            "node.gpaw.setup_dir",
        )


def dataset_name(symbol: str, settings: GpawSettings) -> str:
    """Return the name of the file of an element, as GPAW looks for it."""
    kind = settings.setups.get(symbol, "").partition(":")[0]
    return ".".join([symbol, *([kind] if kind and kind != "paw" else []), settings.functional])


def _has_dataset(gpaw: Any, name: str) -> bool:
    return any((Path(folder) / f"{name}{end}").is_file() for folder in gpaw.setup_paths for end in (".gz", ""))
