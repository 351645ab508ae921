"""How wrong the potential is: `calibration.json`, replaced atomically by the trainer, read by walkers and people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.core.files import read_json, write_json

_HINT = "remove it: the trainer computes it again"


@dataclass(frozen=True)
class Calibration:
    """What audits and labels say of the potential.

    Attributes
    ----------
    version : whose audits these are
    target : `otf.target_force_error`, eV/A, or None
    level : gamma at which walkers halt; None if `otf.uncertainty_threshold` holds
    reason : where the level comes from, for people
    bound : 95 % confidence bound of the 95 % quantile of the force error below the level, eV/A; None: too few audits
    converged : True if the bound is below the target
    versions : per version audits, level and bound when it was last looked at
    pairs : one record per label: task_id, version, basis, audit, gamma, error (eV/A), level
    """

    version: str
    target: float | None = None
    level: float | None = None
    reason: str = ""
    bound: float | None = None
    converged: bool = False
    versions: dict[str, dict[str, Any]] = field(default_factory=dict)
    pairs: list[dict[str, Any]] = field(default_factory=list)


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Replace the file; infinity, which JSON lacks, becomes null."""
    content = asdict(calibration)
    content["pairs"] = [{k: _finite(v) for k, v in pair.items()} for pair in calibration.pairs]
    write_json(path, content)


def read_calibration(path: Path) -> Calibration | None:
    """Return what the trainer wrote, None if it has not yet.

    Raises
    ------
    DataError
        The file is damaged.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    try:
        found = Calibration(**content)
        pairs = [{**_checked(pair), "level": _or_infinity(pair["level"])} for pair in found.pairs]
    except (TypeError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not a calibration: {error}", _HINT) from error
    if found.level is not None and not isinstance(found.level, int | float):
        raise DataError(f"{path}: level {found.level!r} is not a number", _HINT)
    return Calibration(**{**content, "pairs": pairs})


def _checked(pair: Mapping[str, Any]) -> dict[str, Any]:
    numbers = {key: float(pair[key]) for key in ("gamma", "error")}
    return {**pair, **numbers}


def _or_infinity(value: Any) -> float:
    return math.inf if value is None else float(value)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and math.isinf(value) else value
