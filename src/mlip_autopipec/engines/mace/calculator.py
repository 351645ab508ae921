"""A MACE model as ASE's calculator: from a file, or by the name of a foundation model."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from mlip_autopipec.core.errors import ConfigError

_KEY: Final = "explore.surrogate.model"
_SUFFIXES: Final = (".model", ".pt", ".pth")
_INSTALL: Final = "pip install 'mlip-autopipec[mace]'"


def load_mace(model: str, root: Path, *, device: str, dtype: str) -> Any:
    """Return the calculator of a model.

    Parameters
    ----------
    model
        A file (relative to `root`), or a name such as medium-mpa-0, whose weights are fetched once, into
        `~/.cache/mace`.
    device
        auto (a GPU if there is one), cpu or cuda.
    dtype
        float32 or float64.

    Raises
    ------
    ConfigError
        mace-torch is not installed, there is no such file, name or device, or the weights cannot be fetched.
    """
    with _quiet():
        _import()
        chosen = choose_device(device)
        path = _file(model, root) or _fetched(model)
        from mace.calculators import MACECalculator

        try:
            return MACECalculator(model_paths=str(path), device=chosen, default_dtype=dtype)
        # A file that is no model fails in any way.
        except Exception as error:
            raise ConfigError(
                f"{_KEY}: {path}: no MACE model: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
                f"give a file that mace-torch {_version()} can load",
            ) from error


def choose_device(device: str) -> Literal["cpu", "cuda"]:
    """Return where the model runs.

    Raises
    ------
    ConfigError
        cuda is asked for, and torch sees no GPU.
    """
    import torch

    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if not torch.cuda.is_available():
        raise ConfigError(
            f"explore.surrogate.device: cuda: torch {torch.__version__} sees no GPU on this node",
            "set device: auto or cpu, or install a torch that was built for this GPU",
        )
    return "cuda"


def _import() -> None:
    try:
        # Before e3nn, whose tables mace lets torch load.
        import mace
        import mace.calculators  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"explore.surrogate.kind: mace: mace-torch cannot be imported: {error}", _INSTALL) from error


def _file(model: str, root: Path) -> Path | None:
    """Return the file that `model` names; None if it is a name."""
    path = root / model
    if path.is_file():
        return path
    if os.sep in model or path.suffix in _SUFFIXES:
        raise ConfigError(f"{_KEY}: {path}: file not found", "correct the path, relative to the run directory")
    return None


def _fetched(name: str) -> Path:
    """Return the file of a foundation model, fetched now if it was not before."""
    import socket

    from mace.calculators.foundations_models import download_mace_mp_checkpoint, mace_mp_urls
    from mace.tools.utils import get_cache_dir

    if name not in mace_mp_urls:
        known = ", ".join(sorted(mace_mp_urls))
        raise ConfigError(f"{_KEY}: {name!r} is neither a file of the run nor a known model", f"known are {known}")
    waited = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30.0)
    try:
        return Path(download_mace_mp_checkpoint(name))
    # urllib, and mace itself where a page came in place of the weights.
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"{_KEY}: {name!r}: its weights are not in {get_cache_dir()}, and cannot be downloaded: {error}",
            f"fetch {mace_mp_urls[name]} where there is internet, put it into the run directory, and set {_KEY} to the "
            "file's name; or set explore.surrogate.kind: none",
        ) from error
    finally:
        socket.setdefaulttimeout(waited)


def _version() -> str:
    from importlib.metadata import version

    return version("mace-torch")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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
