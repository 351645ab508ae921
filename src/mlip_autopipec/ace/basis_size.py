"""How many functions, which ones, how far they see: chosen from the training structures, for any element.

Functions are taken by degree, the sum over their factors of (n - 1) + l. A rung of the ladder says up to which degree,
by rank. Pairs and triples carry nearly everything (measured on DFT data of Mo and Si: `scripts/bench zuo2020`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from ase import Atoms

from mlip_autopipec.ace.generator import (
    LARGEST_L,
    BasisRecipe,
    FunctionLimits,
    RadialSettings,
    standard_configuration,
)
from mlip_autopipec.ace.records import Configuration
from mlip_autopipec.ace.smooth_radial import Surroundings, neighbour_distance, surroundings, with_smooth_radial
from mlip_autopipec.core.errors import ModelError

RUNGS = tuple(range(1, 17))
"""Largest degree of triples."""
LOWEST_RUNG = 4
"""Of a fit that is made once: a file with few labels gets so many functions all the same."""
DEFAULT_RUNG = 15
N_PAIR_FUNCTIONS = 15
NEIGHBOURS = 40
"""An atom's cutoff holds so many neighbours: beyond the second shell of bcc, the third of diamond, the third of fcc."""
SHORTEST_CUTOFF, LONGEST_CUTOFF = 4.0, 8.0
SMOOTHING = 0.5
"""Length over which radial functions may change, in cutoffs."""
ROWS_PER_FUNCTION = 15
"""A function more than the data carry costs accuracy elsewhere, and time everywhere."""
ENERGY_WEIGHT, FORCE_WEIGHT = 7500.0, 1.0
"""Of squared energy errors (eV^2 per atom) and squared force components ((eV/A)^2); see `linear`."""
RANK_STIFFNESS, LENGTH_POWER = 10.0**0.5, 0.5
"""The prior; see `linear.solve`. All constants are from cross-validation on train, none from test."""
# Degree by rank beyond that of triples, largest l, largest n.
_EXTRA = {2: 2, 3: 0, 4: -9, 5: -11}
_LARGEST_L = {2: 8, 3: 5, 4: 3, 5: 2}
_LARGEST_N = {2: 10, 3: 7, 4: 4, 5: 3}


@dataclass(frozen=True, eq=False)
class Choice:
    """A basis and why it is that one.

    Attributes
    ----------
    configuration : all coefficients zero
    rung : degree of triples
    cutoff, smoothing, shortest : A; shortest is the shortest trained distance
    n_functions : of all elements
    limited_by : "data" or "rung"
    """

    configuration: Configuration
    rung: int
    cutoff: float
    smoothing: float
    shortest: float
    n_functions: int
    limited_by: str


def choose_basis(
    structures: Sequence[Atoms],
    n_rows: int,
    *,
    rung: int = DEFAULT_RUNG,
    lowest: int = LOWEST_RUNG,
    cutoff: float | None = None,
) -> Choice:
    """Choose a basis for all elements of `structures`.

    Parameters
    ----------
    n_rows
        Number of energies and force components that will be fitted.
    rung
        Highest rung that may be taken; a lower one is if the rows are few.
    lowest
        Rung that is taken however few they are.
    cutoff
        A; None: the median distance to neighbour number `NEIGHBOURS`.

    Raises
    ------
    DataError
        No atom has a neighbour.
    ModelError
        There is no such rung.
    """
    _check_rung(rung)
    elements = tuple(sorted({symbol for atoms in structures for symbol in atoms.get_chemical_symbols()}))
    around = surroundings(structures, LONGEST_CUTOFF if cutoff is None else cutoff)
    if cutoff is None:
        cutoff = _cutoff_of(around)
        around = surroundings(structures, cutoff)
    affordable = max(n_rows // ROWS_PER_FUNCTION, 1)
    taken = highest_rung(elements, cutoff, affordable, rung, min(lowest, rung))
    configuration = with_smooth_radial(rung_configuration(elements, taken, cutoff), around, SMOOTHING * cutoff)
    return Choice(
        configuration=configuration,
        rung=taken,
        cutoff=cutoff,
        smoothing=SMOOTHING * cutoff,
        shortest=around.shortest,
        n_functions=count_functions(configuration),
        limited_by="rung" if taken == rung else "data",
    )


def dense_cutoff(structures: Sequence[Atoms]) -> float:
    """Return the cutoff within which half of the atoms have `NEIGHBOURS` neighbours, A.

    Raises
    ------
    DataError
        No atom has a neighbour.
    """
    return _cutoff_of(surroundings(structures, LONGEST_CUTOFF))


def _cutoff_of(around: Surroundings) -> float:
    distance = neighbour_distance(around, NEIGHBOURS)
    return round(min(max(distance, SHORTEST_CUTOFF, 1.5 * around.shortest), LONGEST_CUTOFF), 1)


def rung_configuration(elements: Sequence[str], rung: int, cutoff: float) -> Configuration:
    """Return the functions of one rung with plain radial functions, all coefficients zero.

    Raises
    ------
    ModelError
        There is no such rung.
    """
    _check_rung(rung)
    degrees = {1: math.inf} | {rank: rung + extra for rank, extra in _EXTRA.items() if rung + extra >= 0}
    ranks = [rank for rank in degrees if rank > 1]
    limits = FunctionLimits(
        (N_PAIR_FUNCTIONS, *(min(_LARGEST_N[rank], int(degrees[rank]) + 1) for rank in ranks)),
        (0, *(min(_LARGEST_L[rank], LARGEST_L[rank - 1], int(degrees[rank])) for rank in ranks)),
    )
    whole = standard_configuration(BasisRecipe(tuple(elements), {"ALL": limits}, {"ALL": RadialSettings(cutoff)}))
    return replace(
        whole,
        blocks=tuple(
            replace(
                block,
                functions=tuple(f for f in block.functions if sum(f.ns) - f.rank + sum(f.ls) <= degrees[f.rank]),
            )
            for block in whole.blocks
        ),
    )


def _check_rung(rung: int) -> None:
    if rung not in RUNGS:
        raise ModelError(f"rung {rung} is not between {RUNGS[0]} and {RUNGS[-1]}")


def count_functions(configuration: Configuration) -> int:
    return sum(len(block.functions) for block in configuration.blocks)


@lru_cache(maxsize=64)
def _count_of_rung(elements: tuple[str, ...], rung: int, cutoff: float) -> int:
    return count_functions(rung_configuration(elements, rung, cutoff))


def highest_rung(elements: Sequence[str], cutoff: float, affordable: int, rung: int, lowest: int = RUNGS[0]) -> int:
    """Return the highest rung up to `rung` with no more functions than affordable, at least the lowest one."""
    best = lowest
    # From below: high rungs of many elements have millions of functions.
    for candidate in range(lowest, rung + 1):
        if _count_of_rung(tuple(elements), candidate, cutoff) > affordable:
            break
        best = candidate
    return best
