"""Foundation models by name: which there are, which have their weights on this node, and how they come here."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from mlip_autopipec.core.errors import ConfigError

KEY: Final = "explore.surrogate.model"
DEFAULTS: Final = ("medium-mpa-0", "medium-0b3", "medium", "small")
"""What is taken unasked, best first: trained on all elements, free to use (others are for academic work only)."""
_INSTALL: Final = "pip install 'mlip-autopipec[mace]'"


def import_mace() -> None:
    """Import mace-torch.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        # Before e3nn, whose tables mace lets torch load.
        import mace
        import mace.calculators  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"explore.surrogate.kind: mace: mace-torch cannot be imported: {error}", _INSTALL) from error


def fetched_models() -> list[str]:
    """Return the names whose weights are on this node already; none without mace-torch."""
    folder = _cache()
    # torch takes seconds to import: only where there is something to find.
    if importlib.util.find_spec("mace") is None or not folder.is_dir() or not any(folder.iterdir()):
        return []
    return [name for name, url in _urls().items() if (folder / _cached_name(url)).is_file()]


def require_name(name: str) -> None:
    """Refuse what is no name of a model.

    Raises
    ------
    ConfigError
        There is no such model, or mace-torch is not installed.
    """
    known = _urls()
    if name not in known:
        raise ConfigError(
            f"{KEY}: {name!r} is neither a file of the run nor a known model", f"known are {', '.join(sorted(known))}"
        )


def fetch(name: str) -> Path:
    """Return the file of a foundation model, fetched now if it was not before.

    Raises
    ------
    ConfigError
        There is no such model, or its weights cannot be fetched.
    """
    require_name(name)
    with quiet():
        from mace.calculators.foundations_models import download_mace_mp_checkpoint

        waited = socket.getdefaulttimeout()
        socket.setdefaulttimeout(30.0)
        try:
            return Path(download_mace_mp_checkpoint(name))
        # urllib, and mace itself where a page came in place of the weights.
        except (OSError, RuntimeError) as error:
            raise ConfigError(
                f"{KEY}: {name!r}: its weights are not in {_cache()}, and cannot be downloaded: {error}",
                f"fetch {_urls()[name]} where there is internet, put it into the run directory, and set {KEY} to the "
                "file's name; or set explore.surrogate.kind: none",
            ) from error
        finally:
            socket.setdefaulttimeout(waited)


def _urls() -> Mapping[str, str]:
    with quiet():
        import_mace()
        from mace.calculators.foundations_models import mace_mp_urls

    return dict(mace_mp_urls)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mace"


def _cached_name(url: str) -> str:
    """Return what mace-torch calls the file of these weights: letters, digits and underscores of their name."""
    return "".join(letter for letter in url.rpartition("/")[2] if letter.isalnum() or letter == "_")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let nothing through that mace and torch print or warn of while they load."""
    root, earlier = logging.getLogger(), logging.root.level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        # mace warns through the root logger of what it was told to do: another precision than the file's.
        root.setLevel(logging.ERROR)
        try:
            yield
        finally:
            root.setLevel(earlier)
