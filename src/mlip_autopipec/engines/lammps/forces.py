"""What gives LAMMPS its forces and watches gamma: the same face for the bridge and for a native pair style."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlip_autopipec.core.errors import ModelError
from mlip_autopipec.core.interfaces import Evaluation, Evaluator, IntArray

EXPLOSION_ADVICE = "use a smaller time step, or a potential that knows these configurations"


@dataclass
class Clock:
    """Seconds and counts since the last reset, from inside the run."""

    reading: float = 0.0
    plain: float = 0.0
    graded: float = 0.0
    callback: float = 0.0
    run: float = 0.0
    rebuild_gaps: float = 0.0
    other_gaps: float = 0.0
    steps: int = 0
    graded_steps: int = 0
    rebuilds: int = 0

    def split(self) -> dict[str, float]:
        """Return seconds by kind of work: list, evaluation, gamma, python, lammps; and the number of steps.

        A step that rebuilt the list spends longer inside LAMMPS than the others: the excess is the list's.
        A step with gamma spends longer in the evaluator than the others: the excess is gamma's.
        """
        plain_steps, quiet_steps = self.steps - self.graded_steps, self.steps - self.rebuilds
        gamma = 0.0
        if plain_steps and self.graded_steps:
            gamma = max(0.0, self.graded - self.graded_steps * self.plain / plain_steps)
        building = 0.0
        if quiet_steps and self.rebuilds:
            building = max(0.0, self.rebuild_gaps - self.rebuilds * self.other_gaps / quiet_steps)
        return {
            "list": self.reading + building,
            "evaluation": self.plain + self.graded - gamma,
            "gamma": gamma,
            "python": self.callback - self.reading - self.plain - self.graded,
            "lammps": max(0.0, self.run - self.callback - building),
            "steps": float(self.steps),
        }


class Forces(ABC):
    """The potential of one LAMMPS instance.

    Attributes
    ----------
    gamma_every : gamma is computed on steps divisible by this
    halt_above : a larger gamma (or one that is not a number) ends the run at that step
    halted : the last run ended that way
    evaluation, tags, step : what the potential said last, for atoms in the order `tags` (N,)
    checks : (step, largest gamma, its atom id) of every check since the list was cleared
    error : what was raised where LAMMPS cannot pass it on
    """

    def __init__(self, lmp: Any, type_elements: tuple[str, ...]) -> None:
        self._lmp = lmp
        self._type_elements = type_elements
        self.gamma_every = 1
        self.halt_above = np.inf
        self.halted = False
        self.error: BaseException | None = None
        self.evaluation: Evaluation | None = None
        self.tags: IntArray = np.zeros(0, dtype=np.int32)
        self.step = -1
        self.checks: list[tuple[int, float, int]] = []
        self.clock = Clock()

    @abstractmethod
    def pair_commands(self) -> list[str]:
        """Return what makes LAMMPS know the potential; also after `use`."""

    @abstractmethod
    def fix_commands(self) -> tuple[list[str], list[str]]:
        """Return the fixes that come before and after the integrator."""

    @abstractmethod
    def connect(self) -> None:
        """Called once, when LAMMPS has atoms and fixes."""

    @abstractmethod
    def use(self, evaluator: Evaluator) -> None:
        """Take another potential from the next set-up on."""

    @abstractmethod
    def before_set_up(self, *, look: bool = True) -> None:
        """Prepare for a `run 0`, which looks at gamma whatever the step, or not at all."""

    @abstractmethod
    def run_command(self, steps: int, window: str = "") -> str:
        """Return the command that goes on after a set-up or an earlier run; `window` are more arguments for it."""

    @abstractmethod
    def after_run(self) -> None:
        """Called when LAMMPS has come back."""


def check_elements(evaluator: Evaluator, present: set[str]) -> None:
    """Refuse a potential that lacks an element of the structure.

    Raises
    ------
    ModelError
    """
    missing = sorted(present - set(evaluator.elements))
    if missing:
        raise ModelError(
            f"the potential knows {' '.join(evaluator.elements)}, but the structure contains {' '.join(missing)}",
            "train a potential with this element, or choose another start structure",
        )
