"""The `.asi` file: the inverse active-set matrix of each element, as python-ace and LAMMPS' ML-PACE read it.

An uncompressed `.npz` of float64 arrays in C order, one per element. Both readers misread anything else without a word.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.files import write_bytes
from mlip_autopipec.core.interfaces import FloatArray


def write_active_set(path: Path, inverses: Mapping[str, FloatArray]) -> None:
    """Write `inverses` (element -> (k, k)) to `path`.

    Raises
    ------
    ModelError
        A matrix is not square or not finite.
    """
    arrays: dict[str, Any] = {e: np.ascontiguousarray(matrix, dtype=np.float64) for e, matrix in inverses.items()}
    for element, matrix in arrays.items():
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.isfinite(matrix).all():
            raise ModelError(f"active set of {element}: not a finite square matrix, shape {matrix.shape}")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def read_active_set(path: Path) -> dict[str, FloatArray]:
    """Read an `.asi` file.

    Raises
    ------
    ModelError
        The file is missing or is no such archive.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {element: np.asarray(archive[element], dtype=float) for element in archive.files}
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: cannot be read as an active set: {error}") from error
