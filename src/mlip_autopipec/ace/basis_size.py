"""How many functions, which ones, how far they see: chosen from the training structures, for any element.

Functions are taken by degree, the sum over their factors of (n - 1) + l / 2. A rung of the ladder says up to which
degree, by rank. Half of l, and how far each rank goes, are what makes functions of equal degree contribute alike to the
forces of a fit (measured on DFT data of Mo and Si: `scripts/bench zuo2020`).
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
from mlip_autopipec.ace.records import Configuration, FunctionSpec
from mlip_autopipec.ace.smooth_radial import Surroundings, neighbour_distance, surroundings, with_smooth_radial
from mlip_autopipec.core.errors import ModelError

RUNGS = tuple(range(11))
"""Largest degree of triples (rank 3)."""
LOWEST_RUNG = 2
"""Of a fit that is made once: a file with few labels gets so many functions all the same."""
DEFAULT_RUNG = 9
N_PAIR_FUNCTIONS = 15
NEIGHBOURS = 40
"""An atom's cutoff holds so many neighbours: beyond the second shell of bcc, the third of diamond, the third of fcc."""
SHORTEST_CUTOFF, LONGEST_CUTOFF = 4.0, 8.0
SMOOTHING, FADING = 0.5, 0.5
"""Lengths over which radial functions may change, and over which distant neighbours matter less, in cutoffs."""
ROWS_PER_FUNCTION = 15
"""A function more than the data carry costs accuracy elsewhere, and time everywhere."""
ENERGY_WEIGHT, FORCE_WEIGHT = 7500.0, 1.0
"""Of squared energy errors (eV^2 per atom) and squared force components ((eV/A)^2); see `linear`."""
RIDGE = 10.0**-10.5
"""Of fits that have the labels for all functions of their rung. The evidence, which takes all errors for noise of one
size, would choose 10**-8.25 for DFT data of hot and cold Mo: errors of energies grow by 21 %, of forces by 8 %."""
RANK_STIFFNESS, LENGTH_POWER = 10.0**0.5, 0.5
"""The prior; see `linear.solve`. All constants are from cross-validation on train, none from test."""
# Degree by rank beyond that of triples, largest l, largest n.
_EXTRA = {2: 3, 3: 0, 4: -4, 5: -6}
_LARGEST_L = {2: 10, 3: 6, 4: 4, 5: 2}
_LARGEST_N = {2: 10, 3: 7, 4: 5, 5: 3}


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

    @property
    def ridge(self) -> float | None:
        """`RIDGE`, or None if the data are few: then the evidence knows better."""
        return RIDGE if self.limited_by == "rung" else None


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
        cutoff = cutoff_within(around, NEIGHBOURS)
        around = surroundings(structures, cutoff)
    affordable = max(n_rows // ROWS_PER_FUNCTION, 1)
    taken = highest_rung(elements, cutoff, affordable, rung, min(lowest, rung))
    plain = rung_configuration(elements, taken, cutoff)
    configuration = with_smooth_radial(plain, around, SMOOTHING * cutoff, FADING * cutoff)
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
    return cutoff_within(surroundings(structures, LONGEST_CUTOFF), NEIGHBOURS)


def cutoff_within(around: Surroundings, count: int) -> float:
    """Return the cutoff within which half of the atoms have `count` neighbours, A, in sensible limits."""
    distance = neighbour_distance(around, count)
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
        (0, *(min(_LARGEST_L[rank], LARGEST_L[rank - 1], int(2 * degrees[rank])) for rank in ranks)),
    )
    whole = standard_configuration(BasisRecipe(tuple(elements), {"ALL": limits}, {"ALL": RadialSettings(cutoff)}))
    return replace(
        whole,
        blocks=tuple(
            replace(
                block,
                functions=tuple(f for f in block.functions if degree(f) <= degrees[f.rank]),
            )
            for block in whole.blocks
        ),
    )


def degree(function: FunctionSpec) -> float:
    """Return the sum over the factors of (n - 1) + l / 2."""
    return sum(function.ns) - function.rank + sum(function.ls) / 2


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
