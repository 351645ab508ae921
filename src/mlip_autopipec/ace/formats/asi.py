"""Active sets: reads and writes `.asi` files (numpy archives of one inverse matrix per element)."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from mlip_autopipec.ace.records import FloatArray
from mlip_autopipec.core.errors import ModelError


def read_asi(path: str | os.PathLike[str]) -> dict[str, FloatArray]:
    """Read an active set: element -> inverse matrix (n, n), C-ordered float64.

    Raises
    ------
    ModelError
        The file is missing, no archive, or a matrix is not square, real and finite.
    """
    name = os.fspath(path)
    try:
        # An open file is closed even where numpy gives up half-way.
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:
            matrices = {element: np.asarray(archive[element]) for element in archive.files}
    except FileNotFoundError:
        raise ModelError(f"{name}: no such file") from None
    except Exception as error:  # numpy and zipfile raise anything at all on damaged files
        reason = str(error) or type(error).__name__
        raise ModelError(f"{name}: not an active set: {reason}", "expected a numpy .npz archive") from error
    if not matrices:
        raise ModelError(f"{name}: holds no matrix", "expected one per element")
    for element, matrix in matrices.items():
        problem = _matrix_problem(matrix)
        if problem:
            raise ModelError(f"{name}: {element}: {problem}")
    return {element: np.ascontiguousarray(matrix, dtype=np.float64) for element, matrix in matrices.items()}


def write_asi(inverses: Mapping[str, FloatArray], path: str | os.PathLike[str]) -> None:
    """Write an active set so that python-ace's and LAMMPS' reader understands it.

    That reader wants C order, float64 and no compression, and reads anything else silently wrong.
    """
    for element, matrix in inverses.items():
        problem = _matrix_problem(np.asarray(matrix))
        if problem:
            raise ModelError(f"active set of {element}: {problem}")
    arrays = {element: np.ascontiguousarray(matrix, dtype=np.float64) for element, matrix in inverses.items()}
    # np.savez would append ".npz" to a file name, but not to an open file.
    with open(path, "wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]


def _matrix_problem(matrix: np.ndarray) -> str | None:
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        return f"expected a square matrix, found shape {matrix.shape}"
    if matrix.dtype != np.float64:
        return f"expected float64, found {matrix.dtype}"
    if not np.isfinite(matrix).all():
        return "has numbers that are not finite"
    return None
