"""What moves atoms, whichever way LAMMPS is run: the record of one run, and the protocol that walkers use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ase import Atoms

from mlip_autopipec.core.interfaces import Evaluator
from mlip_autopipec.engines.lammps.schedule import SetPoints
from mlip_autopipec.engines.lammps.swaps import Tally


@dataclass(frozen=True)
class RunOutcome:
    """How one `run` ended.

    Attributes
    ----------
    step : the step that was reached
    halted : gamma was above the threshold at exactly this step
    gamma_max : largest gamma of this run's checks (of the last one if halted); None if there was no check
    gamma_argmax : its atom, 0-based as in the structure that was started with; -1 if there was no check
    potential_energy : eV
    temperature : K
    checks : (step, largest gamma) of every checked step; a native pair style tells only the last one of a run
    escaped : what left its bounds at this step, in words; empty if nothing did
    """

    step: int
    halted: bool
    gamma_max: float | None
    gamma_argmax: int
    potential_energy: float
    temperature: float
    checks: tuple[tuple[int, float], ...]
    escaped: str = ""


class MovingAtoms(Protocol):
    """Molecular dynamics that halts, is saved, restored and given a new potential; `LammpsMD` says what each does."""

    gamma_every: int
    halt_above: float
    tally: Tally

    def start(self, atoms: Atoms, velocity_seed: int | None = None) -> None: ...

    def restore(self, path: Path) -> None: ...

    def snapshot(self) -> bytes: ...

    def run(self, steps: int) -> RunOutcome: ...

    def swap(self, evaluator: Evaluator) -> None: ...

    def reseed(self, seed: int, temperature: float | None = None) -> None: ...

    def frame(self) -> Atoms: ...

    def set_points(self) -> SetPoints: ...

    @property
    def step(self) -> int: ...

    def close(self) -> None: ...
