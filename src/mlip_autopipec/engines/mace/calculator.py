"""A MACE model as ASE's calculator: from a file, or by the name of a foundation model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final, Literal

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.engines.mace.foundation import KEY, fetch, import_mace, quiet

_SUFFIXES: Final = (".model", ".pt", ".pth")


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
    with quiet():
        import_mace()
        chosen = choose_device(device)
        path = _file(model, root) or fetch(model)
        from mace.calculators import MACECalculator

        try:
            return MACECalculator(model_paths=str(path), device=chosen, default_dtype=dtype)
        # A file that is no model fails in any way.
        except Exception as error:
            raise ConfigError(
                f"{KEY}: {path}: no MACE model: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
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


def _file(model: str, root: Path) -> Path | None:
    """Return the file that `model` names; None if it is a name."""
    path = root / model
    if path.is_file():
        return path
    if os.sep in model or path.suffix in _SUFFIXES:
        raise ConfigError(f"{KEY}: {path}: file not found", "correct the path, relative to the run directory")
    return None


def _version() -> str:
    from importlib.metadata import version

    return version("mace-torch")
