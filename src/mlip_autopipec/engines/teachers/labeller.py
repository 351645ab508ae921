"""Analytic potentials of ASE as labellers: exact, fast, and always named as what they are."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

from mlip_autopipec.core.errors import ConfigError, DataError
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.engines.teachers.settings import TeacherSettings

# The metals EMT was made for; ASE's further parameters are "not for any serious use". doi:10.1016/0039-6028(96)00816-3
EMT_METALS: Final = ("Ag", "Al", "Au", "Cu", "Ni", "Pd", "Pt")
_KNOWN: Final = f"it knows {', '.join(EMT_METALS)}; use another labeller"
# Lennard-Jones is exact up to here, then goes smoothly to zero, so that forces are continuous and energy is conserved.
_ONSET_OF_CUTOFF: Final = 0.8


class TeacherLabeller:
    """Labels with Lennard-Jones (all species alike) or EMT.

    Parameters
    ----------
    settings
        Which teacher, with its parameters.
    """

    def __init__(self, settings: TeacherSettings) -> None:
        self.settings = settings

    @property
    def name(self) -> str:
        return f"teacher {self.settings.model}"

    def label(self, atoms: Atoms, folder: Path) -> Label:
        """Return the exact label of `atoms`; nothing is written into `folder`.

        Raises
        ------
        DataError
            EMT does not know an element, or atoms overlap so that the energy is not finite.
        """
        unknown = self._unknown(atoms.get_chemical_symbols())
        if unknown:
            raise DataError(f"structure: {self._no_parameters(unknown)}", _KNOWN)
        plain = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        calculator = self._calculator()
        # Overlapping atoms divide by zero; the check below says so in words.
        with np.errstate(all="ignore"):
            calculator.calculate(plain, ["energy", "forces"])
        results = calculator.results
        energy = float(results["free_energy"])
        forces = np.array(results["forces"], dtype=float)
        stress = np.array(results["stress"], dtype=float) if plain.pbc.all() else None
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise DataError(
                f"structure: {self.name} gives no finite energy: atoms lie on top of each other",
                "look for the smallest distance of the structure",
            )
        return Label(energy, forces, stress, self._info())

    def isolated_atom_energy(self, element: str, folder: Path) -> float:
        """Return the energy of one free atom, eV: 0 for Lennard-Jones; EMT counts from the bulk metal."""
        return self.label(Atoms(element), folder).energy

    def check_elements(self, symbols: Collection[str]) -> None:
        """Raise `ConfigError` if EMT does not know one of these elements."""
        unknown = self._unknown(symbols)
        if unknown:
            raise ConfigError(f"labeller.model: {self._no_parameters(unknown)}", _KNOWN)

    def _unknown(self, symbols: Collection[str]) -> list[str]:
        return [] if self.settings.model == "lj" else sorted(set(symbols) - set(EMT_METALS))

    @staticmethod
    def _no_parameters(unknown: list[str]) -> str:
        return f"EMT has no parameters for {', '.join(unknown)}"

    def _calculator(self) -> Calculator:
        # A new one each time: ASE's keep arrays between calls.
        if self.settings.model == "emt":
            return EMT()
        s = self.settings
        onset = None if s.cutoff is None else _ONSET_OF_CUTOFF * s.cutoff
        return LennardJones(sigma=s.sigma, epsilon=s.epsilon, rc=s.cutoff, ro=onset, smooth=True)

    def _info(self) -> dict[str, Any]:
        return {"engine": "teacher", **self.settings.model_dump(mode="json", exclude={"engine"}, exclude_none=True)}
