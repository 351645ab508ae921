"""Labels by any calculator of ASE."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, __version__
from ase.calculators.calculator import all_changes

from mlip_autopipec.core.errors import AutopipeError, ConfigError, OutputUnreadable
from mlip_autopipec.core.interfaces import Label
from mlip_autopipec.core.periodic import isolated_job
from mlip_autopipec.engines.calculators.failures import error_of
from mlip_autopipec.engines.calculators.loading import has, is_file_based, load_factory, make_calculator
from mlip_autopipec.engines.calculators.settings import AseSettings


class AseLabeller:
    """Labels with a calculator of ASE: the energy that its forces are derivatives of.

    Parameters
    ----------
    settings
        Which calculator, and its arguments.
    tether
        Command put before the program of a calculator that starts one (`runtime.tether.tethered([])`).

    Raises
    ------
    ConfigError
        It does not import, refuses its arguments, or has no forces or no free energy.
    """

    def __init__(self, settings: AseSettings, tether: Sequence[str] = ()) -> None:
        self.settings = settings
        self._tether = list(tether)
        self._factory = load_factory(settings)
        self._calculator = make_calculator(self._factory, settings, self._tether)

    @property
    def name(self) -> str:
        return f"ase {self.settings.calculator.rpartition('.')[2]}"

    def label(self, atoms: Atoms, folder: Path) -> Label:
        """Label `atoms`; what the calculator writes stays in `folder`.

        The stress is None if the calculator has none, or the system no three-dimensional period.

        Raises
        ------
        ConfigError
            An element is not one of `labeller.elements`, or the calculator is not set up on this node.
        DataError
            The calculator does not know an element.
        NotConverged, TimedOut, Crashed, OutputUnreadable
            There is no label, and why.
        """
        self.check_elements(atoms.get_chemical_symbols())
        plain = Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        return self._run(plain, folder)

    def check_elements(self, symbols: Collection[str]) -> None:
        """Raise `ConfigError` if an element is not one of `labeller.elements`; nobody knows if that is empty."""
        missing = sorted(set(symbols) - set(self.settings.elements))
        if self.settings.elements and missing:
            raise ConfigError(
                f"labeller.elements: {', '.join(missing)} is not among {', '.join(self.settings.elements)}",
                "add it if the calculator can label it",
            )

    def isolated_atom_energy(self, element: str, folder: Path) -> float:
        """Return the energy of one atom in a periodic box of `settings.isolated_box`, eV."""
        self.check_elements([element])
        return self._run(isolated_job(element, self.settings.isolated_box).atoms, folder).energy

    def _run(self, atoms: Atoms, folder: Path) -> Label:
        begin = time.monotonic()
        calculator = self._calculator
        try:
            if is_file_based(calculator):
                calculator = make_calculator(self._factory, self.settings, self._tether)
                calculator.directory = folder
            energy, forces, stress = self._compute(calculator, atoms)
        except AutopipeError:
            raise
        # Calculators fail by exceptions of any kind, and a task that failed must not end the process.
        except Exception as error:
            raise error_of(error, self.settings.calculator) from error
        if not (np.isfinite(energy) and np.isfinite(forces).all()):
            raise OutputUnreadable(
                f"{self.settings.calculator}: its energy or forces are not finite", "look at the structure's distances"
            )
        return Label(energy, forces, stress, self._info(stress, time.monotonic() - begin))

    def _compute(self, calculator: Any, atoms: Atoms) -> tuple[float, np.ndarray, np.ndarray | None]:
        wanted = [self.settings.energy, "forces"]
        if atoms.pbc.all() and has(calculator, "stress"):
            wanted.append("stress")
        if hasattr(calculator, "reset"):
            calculator.reset()  # nothing of an earlier structure
        # Overlapping atoms divide by zero; what is not finite is refused in words.
        with np.errstate(all="ignore"):
            calculator.calculate(atoms, wanted, list(all_changes))
        found = {name: calculator.results.get(name) for name in wanted}
        missing = [name for name in wanted[:2] if found[name] is None]
        if missing:
            raise OutputUnreadable(f"{self.settings.calculator}: computed no {missing[0]}", "see labeller.energy")
        stress = found.get("stress")
        return (
            float(found[self.settings.energy]),
            np.array(found["forces"], dtype=float),
            None if stress is None else np.array(stress, dtype=float),
        )

    def _info(self, stress: np.ndarray | None, seconds: float) -> dict[str, Any]:
        return {
            "engine": "ase",
            "program": f"ase {__version__}",
            "calculator": self.settings.calculator,
            "kwargs": self.settings.kwargs,
            "energy": self.settings.energy,
            "has_stress": stress is not None,
            "seconds": round(seconds, 6),
        }
