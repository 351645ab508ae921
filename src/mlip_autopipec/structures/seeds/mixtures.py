"""Solid solutions: special quasirandom structures by icet, or without it the best of many random ones."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from functools import reduce
from typing import Any, Final

import numpy as np
from ase import Atoms

from mlip_autopipec.core.interfaces import FloatArray
from mlip_autopipec.structures.seeds.contacts import pairs
from mlip_autopipec.structures.seeds.prototypes import Prototype
from mlip_autopipec.structures.seeds.supercells import supercell

NO_ICET: Final = (
    "icet is not installed: solid solutions are the best of many random ones, not special quasirandom structures "
    "(pip install 'mlip-autopipec[alloys]'; it compiles for some minutes)"
)
_RANDOM_TRIES: Final = 200
_SHELLS_A: Final = 1.5  # times the shortest distance
_STEPS: Final = 1000


def has_icet() -> bool:
    """True if special quasirandom structures can be made."""
    try:
        _icet()
    except ImportError:
        return False
    return True


def solid_solution(lattice: Prototype, counts: Mapping[str, int], most: int, seed: int) -> Atoms:
    """Return a cell of at most about `most` atoms in which the elements are mixed as at random.

    Special quasirandom structure: A. Zunger et al. 1990, doi:10.1103/PhysRevLett.65.353; found by icet's annealing,
    doi:10.1002/adts.201900015.

    Parameters
    ----------
    counts
        Atoms of each element in the reduced formula; the cell holds whole formulas.
    """
    cell = _sites(lattice, sum(counts.values()), most)
    symbols = [e for e, n in counts.items() for _ in range(n * len(cell) // sum(counts.values()))]
    try:
        tools = _icet()
    except ImportError:
        return _best_random(cell, symbols, np.random.default_rng(seed))
    return _quasirandom(tools, lattice.primitive(), cell, counts, seed)


def _sites(lattice: Prototype, per_formula: int, most: int) -> Atoms:
    """Return the most compact repeat of the lattice that holds whole formulas."""
    primitive = lattice.primitive()
    lengths = [n for n in range(most, 0, -1) if n % math.lcm(per_formula, len(primitive)) == 0]
    candidates = [primitive, lattice.atoms]
    for count in lengths:
        cell = supercell(candidates, count, least=count)
        if len(cell) == count and min(cell.cell.lengths()) > 0.3 * max(cell.cell.lengths()):
            return cell
    row: Atoms = primitive.repeat((1, 1, per_formula))
    return row


def _quasirandom(tools: Any, primitive: Atoms, cell: Atoms, counts: Mapping[str, int], seed: int) -> Atoms:
    cluster_space, generate = tools
    length = float(pairs(primitive, 6.0)[2].min())
    total = sum(counts.values())
    space = cluster_space(primitive, [2.1 * length, 1.2 * length], [sorted(counts)] * len(primitive))
    found = generate(
        space, [cell], {e: n / total for e, n in counts.items()}, n_steps=_STEPS, random_seed=seed % 2**31
    )  # fmt: skip
    return Atoms(found.numbers, positions=found.positions, cell=found.cell, pbc=True)


def _icet() -> tuple[Any, Any]:
    # It says much, and warns of its own dependencies.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from icet import ClusterSpace
        from icet.input_output.logging_tools import set_log_config
        from icet.tools.structure_generation import generate_sqs_from_supercells

    set_log_config(level="ERROR")
    logging.getLogger("icet").setLevel(logging.ERROR)
    return ClusterSpace, generate_sqs_from_supercells


def _best_random(cell: Atoms, symbols: list[str], rng: np.random.Generator) -> Atoms:
    """Return the decoration whose neighbours are mixed best, of many random ones."""
    first, second, distances = pairs(cell, _SHELLS_A * float(pairs(cell, 6.0)[2].min()))
    names = sorted(set(symbols))
    shares = np.array([symbols.count(e) / len(symbols) for e in names])
    tries = [list(rng.permutation(symbols)) for _ in range(_RANDOM_TRIES)]

    def excess(tried: list[str]) -> float:
        kinds = np.searchsorted(names, tried)
        return _order(kinds[first], kinds[second], distances, shares)

    best = reduce(lambda a, b: a if excess(a) <= excess(b) else b, tries)
    return Atoms(best, positions=cell.positions, cell=cell.cell, pbc=True)


def _order(one: np.ndarray, two: np.ndarray, distances: FloatArray, shares: FloatArray) -> float:
    """Return how far the pairs of each shell are from those of a random mixture."""
    total = 0.0
    for shell in np.unique(np.round(distances, 2)):
        near = np.abs(distances - shell) < 0.02
        found = np.zeros((len(shares), len(shares)))
        np.add.at(found, (one[near], two[near]), 1.0 / near.sum())
        total += float(np.abs(found - np.outer(shares, shares)).sum()) / float(shell)
    return total
