"""The text of one frame as extended XYZ: what ASE writes, with its numbers made in machine code.

Python formats number by number: for 4 000 atoms that takes as long as several steps of MD.
"""

from __future__ import annotations

import io
from typing import Final

import ase.io
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io.extxyz import output_column_format, save_calc_results
from ase.stress import voigt_6_to_full_3x3_stress
from numba import njit

from mlip_autopipec.core.interfaces import FloatArray

# What fits with its sign and six digits before the point; ASE writes what is larger, which would be no number of MD.
_LARGEST: Final = 9e5
_DECIMALS: Final = 8
_WIDTH: Final = 16
_SYMBOLS: Final = np.array([list(f"{symbol:2}".encode()) for symbol in chemical_symbols], dtype=np.uint8)


def text_of(frame: Atoms) -> bytes:
    """Return `frame` with its calculator's results and `info` as one frame of an extxyz file."""
    atoms = frame.copy()
    save_calc_results(atoms, frame.calc, calc_prefix="")
    if np.shape(atoms.info.get("stress")) == (6,):
        atoms.info["stress"] = voigt_6_to_full_3x3_stress(atoms.info["stress"])
    names = [name for name in atoms.arrays if name not in ("numbers", "positions")]
    columns = {name: atoms.arrays[name] for name in ("positions", *names)}
    numbers = np.column_stack([np.asarray(column).reshape(len(atoms), -1) for column in columns.values()])
    plain = all(column.dtype == np.float64 for column in columns.values())
    if atoms.constraints or not plain or not (np.abs(numbers) < _LARGEST).all():
        text = io.StringIO()
        ase.io.write(text, frame, format="extxyz")
        return text.getvalue().encode()
    symbols = np.array(atoms.get_chemical_symbols())
    comment, *_ = output_column_format(atoms, ["symbols", *columns], {"symbols": symbols, **columns}, True)
    rows = np.empty((len(atoms), 2 + (1 + _WIDTH) * numbers.shape[1] + 1), dtype=np.uint8)
    rows[:, :2] = _SYMBOLS[atoms.numbers]
    _write(numbers, rows)
    return f"{len(atoms)}\n{comment}\n".encode() + rows.tobytes()


@njit(cache=True)  # type: ignore[untyped-decorator]
def _write(numbers: FloatArray, rows: np.ndarray) -> None:
    """Fill `rows` from the third character on with the numbers, each as `% 16.8f` after a blank, and a line's end."""
    for i in range(len(numbers)):
        for k in range(numbers.shape[1]):
            first = 2 + (1 + _WIDTH) * k
            at = first + _WIDTH
            value = numbers[i, k]
            left = np.int64(np.floor(abs(value) * 10.0**_DECIMALS + 0.5))
            negative = np.signbit(value)
            for place in range(_WIDTH):
                if place == _DECIMALS:
                    rows[i, at] = 46  # .
                elif place <= _DECIMALS + 1 or left > 0:
                    rows[i, at] = 48 + left % 10
                    left //= 10
                elif negative:
                    rows[i, at] = 45  # -
                    negative = False
                else:
                    rows[i, at] = 32
                at -= 1
            rows[i, first] = 32
        rows[i, -1] = 10
