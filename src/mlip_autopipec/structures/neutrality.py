"""Neutrality: a cell cut out of an ionic material keeps the material's formula, or a sum of charges of zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from ase.data import atomic_numbers
from numpy.typing import NDArray

from mlip_autopipec.core.errors import DataError
from mlip_autopipec.structures.units import Units
from mlip_autopipec.structures.window import FloatArray, IndexArray

# Pauling's electronegativities (CRC Handbook of Chemistry and Physics); elements that have none are left out.
_PAULING: Final = (
    "H 2.20 Li 0.98 Be 1.57 B 2.04 C 2.55 N 3.04 O 3.44 F 3.98 Na 0.93 Mg 1.31 Al 1.61 Si 1.90 P 2.19 S 2.58 Cl 3.16 "
    "K 0.82 Ca 1.00 Sc 1.36 Ti 1.54 V 1.63 Cr 1.66 Mn 1.55 Fe 1.83 Co 1.88 Ni 1.91 Cu 1.90 Zn 1.65 Ga 1.81 Ge 2.01 "
    "As 2.18 Se 2.55 Br 2.96 Kr 3.00 Rb 0.82 Sr 0.95 Y 1.22 Zr 1.33 Nb 1.60 Mo 2.16 Tc 1.90 Ru 2.20 Rh 2.28 Pd 2.20 "
    "Ag 1.93 Cd 1.69 In 1.78 Sn 1.96 Sb 2.05 Te 2.10 I 2.66 Xe 2.60 Cs 0.79 Ba 0.89 La 1.10 Ce 1.12 Pr 1.13 Nd 1.14 "
    "Sm 1.17 Gd 1.20 Dy 1.22 Ho 1.23 Er 1.24 Tm 1.25 Lu 1.27 Hf 1.30 Ta 1.50 W 2.36 Re 1.90 Os 2.20 Ir 2.20 Pt 2.28 "
    "Au 2.54 Hg 2.00 Tl 1.62 Pb 2.33 Bi 2.02 Th 1.30 U 1.38"
)
_WORDS: Final = _PAULING.split()
ELECTRONEGATIVITY: Final = {
    atomic_numbers[symbol]: float(value) for symbol, value in zip(_WORDS[::2], _WORDS[1::2], strict=True)
}
# From here on a bond counts as ionic; oxides of transition metals (1.5) must be in, alloys (CuAu 0.64) out.
IONIC_DIFFERENCE: Final = 1.5
# A formula is trusted if it gives every share of the parent to this accuracy: one vacancy in 64 atoms is 3 %.
_FORMULA_ACCURACY: Final = 0.035
_LARGEST_FORMULA: Final = 24


class NotNeutral(DataError):  # noqa: N818  says what is
    """The cell cannot be made neutral without the atoms that have to stay."""


Kind = tuple[int, ...]
"""What a unit is made of: its sorted atomic numbers."""


def is_ionic(numbers: Sequence[int] | IndexArray) -> bool:
    """Tell whether two of the elements differ by `IONIC_DIFFERENCE` or more in electronegativity."""
    values = [ELECTRONEGATIVITY[int(z)] for z in set(np.asarray(numbers).tolist()) if int(z) in ELECTRONEGATIVITY]
    return bool(values) and max(values) - min(values) >= IONIC_DIFFERENCE


def surplus_atoms(
    numbers: IndexArray,
    units: Units,
    indices: IndexArray,
    distances: FloatArray,
    core: NDArray[np.bool_],
    states: Mapping[str, float] | None,
) -> tuple[IndexArray, list[str]]:
    """Choose the atoms of a cell that make it neutral by going: the outermost first, whole units, never the core.

    Parameters
    ----------
    numbers : (N,) of the parent
    units : of the parent
    indices, distances, core : (M,) the cell's atoms, how far out they are (A), and which have to stay
    states : oxidation state by element; without, the parent's formula is kept if the elements look ionic

    Returns
    -------
    places of the atoms that go, 0 to M - 1, and warnings

    Raises
    ------
    NotNeutral
        Not possible without the core.
    DataError
        An element has no oxidation state.
    """
    nothing = np.zeros(0, dtype=np.int64)
    if not states and not is_ionic(numbers):
        return nothing, []
    names, unit = np.unique(units.of_atom[indices], return_inverse=True)
    reach = np.full(len(names), np.inf)
    np.minimum.at(reach, unit, np.round(distances, 6))
    outermost = np.lexsort((names, -reach))
    removable = np.ones(len(names), dtype=bool)
    removable[unit[core]] = False
    if states:
        charges = np.zeros(len(names))
        np.add.at(charges, unit, charges_of(numbers[indices], states))
        gone = surplus_of_charge(charges, outermost, removable)
    else:
        kinds = units.kinds(numbers)
        formula = formula_of(list(kinds.values()))
        if formula is None:
            told = "embedding: the structure looks ionic but has no small formula, so the cell may not be neutral; "
            return nothing, [told + "give embedding.oxidation_states"]
        gone = surplus_of_formula([kinds[int(n)] for n in names], formula, outermost, removable)
    return np.flatnonzero(np.isin(unit, gone)), []


def formula_of(kinds: Sequence[Kind]) -> dict[Kind, int] | None:
    """Return the smallest formula, units of each kind, that describes a structure's `kinds`; None if none is small.

    Vacancies and the like change a share by a few per cent, which the formula leaves out.
    """
    names = sorted(set(kinds))
    shares = np.array([kinds.count(name) for name in names]) / len(kinds)
    for size in range(len(names), _LARGEST_FORMULA + 1):
        counts = np.round(size * shares)
        if counts.min() >= 1 and np.all(np.abs(counts / counts.sum() - shares) <= _FORMULA_ACCURACY * shares):
            return {name: int(count) for name, count in zip(names, counts, strict=True)}
    return None


def surplus_of_formula(
    kinds: Sequence[Kind], formula: Mapping[Kind, int], outermost: IndexArray, removable: NDArray[np.bool_]
) -> list[int]:
    """Choose the units to remove so that a whole number of formulas stays.

    Parameters
    ----------
    kinds : U units
    outermost : (U,) their order of going
    removable : (U,)

    Raises
    ------
    NotNeutral
        Not possible without the units that have to stay.
    """
    counts = {name: kinds.count(name) for name in formula}
    whole = min(counts[name] // number for name, number in formula.items())
    surplus = {name: counts[name] - whole * number for name, number in formula.items()}
    removed = []
    for unit in outermost.tolist():
        if removable[unit] and surplus.get(kinds[unit], 0) > 0:
            surplus[kinds[unit]] -= 1
            removed.append(unit)
    if whole < 1 or any(surplus.values()):
        raise NotNeutral(
            "embedding: no whole number of formula units fits around the core",
            "enlarge embedding.buffer_size, or set embedding.neutral: false",
        )
    return removed


def surplus_of_charge(charges: FloatArray, outermost: IndexArray, removable: NDArray[np.bool_]) -> list[int]:
    """Choose the units to remove so that the sum of `charges` (U,) becomes zero; arguments as `surplus_of_formula`.

    Raises
    ------
    NotNeutral
        Not possible without the units that have to stay.
    """
    rest = float(charges.sum())
    queue = [unit for unit in outermost.tolist() if removable[unit] and charges[unit] != 0.0]
    removed: list[int] = []
    while abs(rest) > 1e-6:
        same = [unit for unit in queue if charges[unit] * rest > 0.0]
        # One that fits is better than one that overshoots; each pass takes one away, so it ends.
        fitting = [unit for unit in same if abs(charges[unit]) <= abs(rest) + 1e-6]
        if not same:
            raise NotNeutral(
                f"embedding: a charge of {rest:+g} cannot be balanced without the core",
                "check embedding.oxidation_states, or enlarge embedding.buffer_size",
            )
        unit = (fitting or same)[0]
        queue.remove(unit)
        removed.append(unit)
        rest -= float(charges[unit])
    return removed


def charges_of(numbers: IndexArray, states: Mapping[str, float]) -> FloatArray:
    """Return (N,) the oxidation state of each atom.

    Raises
    ------
    DataError
        An element has none.
    """
    by_number = {atomic_numbers[symbol]: float(value) for symbol, value in states.items()}
    for number in np.unique(numbers):
        if int(number) not in by_number:
            symbol = next(s for s, z in atomic_numbers.items() if z == int(number))
            raise DataError(f"embedding.oxidation_states: {symbol} is missing", "give every element of the structure")
    return np.array([by_number[int(z)] for z in numbers])
