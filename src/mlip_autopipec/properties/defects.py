"""Energies of point defects: vacancies, exchanged and foreign atoms."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from ase import Atoms

from mlip_autopipec.properties.crystal import energy_per_atom, supercell
from mlip_autopipec.properties.property import Property, Value
from mlip_autopipec.properties.relaxation import relax_positions


def vacancy(crystal: Atoms, calculator: Any, length: float) -> Property:
    """Return the formation energy of a vacancy in the crystal of an element, positions relaxed at fixed cell, eV.

    E = E(N - 1 atoms) - (N - 1) E(crystal, per atom).

    Parameters
    ----------
    crystal
        At rest, of one element, with its calculator.
    length
        A; between periodic images of the vacancy.
    """
    big = supercell(crystal, length)
    del big[0]
    relaxed = relax_positions(big, calculator)
    energy = relaxed.get_potential_energy() - len(relaxed) * energy_per_atom(crystal)
    return Property("vacancy", {"vacancy": Value(float(energy), "eV")}, {"atoms": len(relaxed)})


def swaps(crystal: Atoms, calculator: Any, length: float) -> Property:
    """Return for each pair of elements of a compound the energy to exchange a neighbouring pair of atoms, eV.

    Parameters
    ----------
    crystal
        At rest, of more than one element.
    """
    big = supercell(crystal, length)
    before = relax_positions(big, calculator).get_potential_energy()
    values = {}
    distances = big.get_all_distances(mic=True)
    symbols = np.asarray(big.get_chemical_symbols())
    for one, other in combinations(sorted(set(symbols)), 2):
        i = int(np.flatnonzero(symbols == one)[0])
        others = np.flatnonzero(symbols == other)
        j = int(others[np.argmin(distances[i, others])])
        exchanged = big.copy()
        exchanged.symbols[[i, j]] = [other, one]
        energy = relax_positions(exchanged, calculator).get_potential_energy() - before
        values[f"{one} and {other} exchanged"] = Value(float(energy), "eV")
    return Property("swaps", values, {"atoms": len(big)})


def solutes(crystal: Atoms, calculator: Any, length: float, pure: Mapping[str, float]) -> Property:
    """Return the energy of one foreign atom in the crystal of an element, positions relaxed at fixed cell, eV.

    E = E(host with one B) - (N - 1) E(A) - E(B), both of their own crystals: what a swap of an A and a B atom between
    large crystals costs is the sum of both such energies.

    Parameters
    ----------
    crystal
        At rest, of one element.
    pure
        Element -> eV per atom in its own crystal, by the same calculator.
    """
    host = crystal.get_chemical_symbols()[0]
    values = {}
    for guest in sorted(set(pure) - {host}):
        big = supercell(crystal, length)
        big.symbols[0] = guest
        relaxed = relax_positions(big, calculator)
        energy = relaxed.get_potential_energy() - (len(big) - 1) * pure[host] - pure[guest]
        values[f"{guest} in {host}"] = Value(float(energy), "eV")
    return Property("solutes", values)
