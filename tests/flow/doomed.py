"""A reference method that labels aluminium and fails for good wherever there is copper; importable by its path."""

from __future__ import annotations

from typing import Any

from ase import Atoms
from ase.calculators.emt import EMT


class DoomedEMT(EMT):
    """ASE's EMT, but for copper."""

    def calculate(self, atoms: Atoms | None = None, *arguments: Any) -> None:
        if atoms is not None and "Cu" in atoms.get_chemical_symbols():
            raise RuntimeError("no label for copper, now or ever")
        super().calculate(atoms, *arguments)
