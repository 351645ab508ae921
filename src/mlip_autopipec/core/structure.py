"""Atomic structures as JSON-ready dictionaries, and their identity."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from mlip_autopipec.core.errors import DataError

TASK_ID_PATTERN = re.compile(r"[0-9a-f]{20}")
# Positions that differ by less than this are the same structure: far below any physics, far above rounding noise.
_IDENTITY_DECIMALS: Final = 6
_KEYS: Final = frozenset({"species", "positions", "cell", "pbc"})
_NUMBERS: Final = frozenset({float, int})
# Made once: every claim hashes a task.
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def structure_to_dict(atoms: Atoms) -> dict[str, Any]:
    """Return species, positions (N, 3) in A, cell (3, 3) in A and pbc (3,) as plain lists."""
    return {
        "species": list(atoms.get_chemical_symbols()),
        "positions": atoms.get_positions().tolist(),
        "cell": np.asarray(atoms.cell).tolist(),
        "pbc": [bool(p) for p in atoms.pbc],
    }


def structure_from_dict(data: Mapping[str, Any]) -> Atoms:
    """Build `Atoms` from `structure_to_dict`'s output; raises as `checked_structure`."""
    return Atoms(**{"symbols" if key == "species" else key: value for key, value in checked_structure(data).items()})


def checked_structure(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return `structure_to_dict`'s output with all numbers as floats, as if it had been `Atoms` (which is slower).

    Raises
    ------
    DataError
        A key is missing or unknown, sizes disagree, a number is not finite, or a species is no element.
    """
    if not isinstance(data, Mapping) or set(data) != _KEYS:
        raise DataError(f"structure: needs exactly the keys {sorted(_KEYS)}", "compare with a task in done/")
    species = data["species"]
    if not isinstance(species, list) or set(map(type, species)) != {str}:
        raise DataError("structure.species: not a list of element symbols")
    unknown = sorted(s for s in set(species) if s not in atomic_numbers or s == "X")
    if unknown:
        raise DataError(f"structure.species: {unknown[0]!r} is not an element symbol")
    positions = finite_array(data["positions"], (len(species), 3), "structure.positions")
    cell = finite_array(data["cell"], (3, 3), "structure.cell")
    pbc = data["pbc"]
    if not isinstance(pbc, list) or len(pbc) != 3 or set(map(type, pbc)) != {bool}:
        raise DataError("structure.pbc: not a list of three booleans")
    rows = cell.tolist()
    if all(pbc) and abs(_determinant(rows)) < 1e-6:
        raise DataError("structure.cell: periodic in all directions but without volume")
    return {"species": list(species), "positions": positions.tolist(), "cell": rows, "pbc": list(pbc)}


def finite_array(value: Any, shape: tuple[int, ...], name: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return an array of finite numbers; raises `DataError` for another shape, and for texts and booleans in lists."""
    try:
        if isinstance(value, list) and not _holds_numbers(value):
            raise TypeError("not a number")
        array = np.asarray(value, dtype=float)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"{name}: not an array of numbers") from error
    if array.shape != shape:
        raise DataError(f"{name}: shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{name}: contains a number that is not finite")
    return array


def _determinant(rows: list[list[float]]) -> float:
    """Of a (3, 3) matrix; twenty times faster than `np.linalg.det`, and silent if numbers are absurdly large."""
    (a, b, c), (d, e, f), (g, h, i) = rows
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def _holds_numbers(values: list[Any]) -> bool:
    """True for numbers, or lists of them nested to an equal depth."""
    kinds = set(map(type, values))
    while kinds == {list}:
        values = list(chain.from_iterable(values))
        kinds = set(map(type, values))
    return kinds <= _NUMBERS


def structure_id(atoms: Atoms, force_mask: Sequence[int], labeller: Mapping[str, Any]) -> str:
    """Return the identity of "this structure, this mask, labelled this way": 20 hexadecimal digits.

    Publishing the same thing twice therefore gives one task.
    """
    return content_id(structure_to_dict(atoms), force_mask, labeller)


def content_id(structure: Mapping[str, Any], force_mask: Sequence[int], labeller: Mapping[str, Any]) -> str:
    """Return `structure_id` from `structure_to_dict`'s output."""
    # In one array, for small ones cost the same as large ones. Adding zero turns -0.0 into 0.0, which would otherwise
    # hash differently.
    with np.errstate(all="ignore"):
        numbers = np.asarray([*structure["positions"], *structure["cell"]], dtype=float)
        rows = (numbers.round(_IDENTITY_DECIMALS) + 0.0).tolist()
    rounded = {**structure, "positions": rows[:-3], "cell": rows[-3:]}
    text = _canonical({"structure": rounded, "force_mask": [int(m) for m in force_mask], "labeller": dict(labeller)})
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def energy_of_forces(atoms: Atoms) -> float:
    """Return the energy that came with a structure and that its forces are derivatives of, eV.

    With smearing that is the free energy F = E - TS. What ASE calls the energy of VASP's and GPAW's files is another
    one, extrapolated to no smearing.
    """
    results = getattr(atoms.calc, "results", {})
    free = results.get("free_energy")
    return float(atoms.get_potential_energy() if free is None else free)
