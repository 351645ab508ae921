"""Calculators to name by their dotted path: one for each way in which a calculator disappoints."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase.calculators.calculator import (
    Calculator,
    CalculatorSetupError,
    FileIOCalculator,
    OldShellProfile,
    ReadError,
    SCFError,
    StandardProfile,
    all_changes,
)
from ase.calculators.emt import EMT

NO_CALCULATOR = 7


class Obedient(Calculator):
    """Raises what it is told to, or says that the energy is the number of atoms."""

    implemented_properties: ClassVar = ["energy", "free_energy", "forces"]

    def __init__(self, do: str = "label", **kwargs: Any) -> None:
        if do == "refuse":
            raise ValueError("do: cannot be 'refuse'")
        super().__init__(**kwargs)
        self.do = do

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        errors: dict[str, Exception] = {
            "scf": SCFError("no convergence in 60 steps"),
            "setup": CalculatorSetupError("no such basis"),
            "read": ReadError("output ends early"),
            "element": NotImplementedError("No parameters for Xe"),
            "memory": MemoryError(),
            "time": subprocess.TimeoutExpired("dft", 5),
            "disk": OSError(28, "No space left on device"),
            "missing": FileNotFoundError(2, "No such file or directory", "dft"),
            "bug": ZeroDivisionError("division by zero"),
        }
        if self.do in errors:
            raise errors[self.do]
        number = float(len(atoms))
        forces = np.full((len(atoms), 3), np.nan if self.do == "nan" else 0.1)
        self.results = {"energy": number - 1.0, "free_energy": number, "forces": forces}
        if self.do == "nothing":
            del self.results["forces"]


class EnergyOnly(EMT):
    """Without forces."""

    implemented_properties: ClassVar = ["energy", "free_energy"]


class NoFreeEnergy(EMT):
    """Whose energy may be one extrapolated to zero smearing."""

    implemented_properties: ClassVar = ["energy", "forces", "stress"]


class Program(FileIOCalculator):
    """Runs a program in its folder, as most DFT codes are run: by a shell, or directly."""

    name = "program"
    implemented_properties: ClassVar = ["energy", "free_energy", "forces"]
    fileio_rules = FileIOCalculator.ruleset()

    def __init__(self, command: str = "true", shell: bool = True, **kwargs: Any) -> None:
        super().__init__(profile=OldShellProfile(command) if shell else StandardProfile(command), **kwargs)

    def write_input(self, atoms: Any, properties: Any = None, system_changes: Any = None) -> None:
        super().write_input(atoms, properties, system_changes)
        Path(self.directory, "input").write_text(f"{len(atoms)} atoms")

    def read_results(self) -> None:
        energy = float(Path(self.directory, "energy").read_text())
        self.results = {"energy": energy, "free_energy": energy, "forces": np.zeros((len(self.atoms), 3))}


def emt(factor: float = 1.0) -> EMT:
    """A function that makes a calculator, as those of foundation models."""
    if factor != 1.0:
        raise TypeError("factor must be 1")
    return EMT()


def label_in_child(settings: dict[str, Any], folder: Path) -> float:
    """Label an atom with what `settings` name; to be called in a child process."""
    from ase import Atoms

    from mlip_autopipec.daemons.labellers import make_labeller
    from mlip_autopipec.daemons.settings import NodeSettings

    labeller = make_labeller(settings, NodeSettings())
    return labeller.label(Atoms("Cu", cell=[5, 5, 5], pbc=True), folder).energy
